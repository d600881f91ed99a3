package dns

import (
	"crypto/x509"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"time"

	"sipward/policy"
	"sipward/policy/event"
)

// Protection is how far answers are mistrusted. The zero Protection is On.
type Protection uint8

// The protections. Whichever it is, replies are parsed, checked against the question and
// written anew.
const (
	// On keeps the addresses of a name within the buffer of a vulnerable C library, and
	// writes names in random case, so that a forger has more to guess.
	On Protection = iota
	// Strict also refuses replies with bytes behind their end and names that no host has,
	// and takes private addresses out of the answers for names that are not private.
	Strict
	// Off does neither.
	Off
)

// String returns the word of the configuration.
func (p Protection) String() string { return [...]string{"on", "strict", "off"}[p] }

// Upstream is a resolver that is asked.
type Upstream struct {
	Address netip.AddrPort
	// Transport is policy.UDP, with TCP for what does not fit, policy.TCP, or policy.TLS
	// (RFC 7858).
	Transport policy.Transport
	// Name is what the certificate must be for; empty: the address. TLS only.
	Name string
}

// String writes an upstream as in the configuration.
func (u Upstream) String() string {
	if u.Transport == policy.UDP {
		return u.Address.String()
	}
	text := u.Transport.String() + "://" + u.Address.String()
	if u.Name != "" {
		text += "#" + u.Name
	}
	return text
}

// Settings are what Reload can change.
type Settings struct {
	Protection Protection
	// Upstreams are asked in this order, those that do not answer last. At least one.
	Upstreams []Upstream
	// PrivateNames are domains that may have private addresses in Strict, and are asked
	// for although RFC 6761 says that they do not exist.
	PrivateNames []string
	// ServeStale is how long an answer that is out of date may be given when no upstream
	// has a newer one (RFC 8767). 0: never.
	ServeStale time.Duration
	// Timeout is how long a question may take until the client is told of the failure.
	// 0: 4 seconds.
	Timeout time.Duration
	// Try is how long one upstream may take. 0: a quarter of Timeout.
	Try time.Duration
}

func (s Settings) withDefaults() Settings {
	if s.Timeout <= 0 {
		s.Timeout = 4 * time.Second
	}
	if s.Try <= 0 {
		s.Try = s.Timeout / 4
	}
	s.PrivateNames = slices.Clone(s.PrivateNames)
	for i, n := range s.PrivateNames {
		s.PrivateNames[i] = strings.ToLower(strings.TrimSuffix(n, ".")) + "."
	}
	return s
}

// Listener is where questions arrive.
type Listener struct {
	Transport policy.Transport // UDP or TCP
	Addr      netip.AddrPort   // one address, not all
}

// Config makes a Server. Zero values stand for the defaults.
type Config struct {
	Settings
	Listen []Listener

	CacheEntries int // answers; 0: 10,000
	CacheBytes   int // of memory; 0: 8 MiB
	MaxInFlight  int // questions that wait for upstreams; 0: 1,024

	MaxConns     int           // TCP connections of all clients; 0: 256
	MaxPerSource int           // of one address; 0: 16
	IdleTimeout  time.Duration // of a connection; 0: 10 seconds

	Workers int // goroutines that read each UDP address; 0: 1

	// Mark is put on every packet to an upstream; 0: none.
	Mark uint32
	// RootCAs sign the certificates of upstreams; nil: those of the system.
	RootCAs *x509.CertPool

	Engine *policy.Engine
	Events *event.Bus
}

func (c Config) withDefaults() Config {
	for _, d := range []struct {
		v         *int
		byDefault int
	}{
		{&c.CacheEntries, 10_000}, {&c.CacheBytes, 8 << 20}, {&c.MaxInFlight, 1024},
		{&c.MaxConns, 256}, {&c.MaxPerSource, 16}, {&c.Workers, 1},
	} {
		if *d.v <= 0 {
			*d.v = d.byDefault
		}
	}
	if c.IdleTimeout <= 0 {
		c.IdleTimeout = 10 * time.Second
	}
	if c.Events == nil {
		c.Events = new(event.Bus)
	}
	c.Settings = c.Settings.withDefaults()
	return c
}

// control is what is done to a socket to an upstream before it is used.
type control func(network, address string, c syscall.RawConn) error
