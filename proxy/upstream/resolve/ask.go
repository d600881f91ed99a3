package resolve

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

// udpSize is what we take in one datagram: what fits into an IPv6 packet
// everywhere (as agreed for DNS flag day 2020).
const udpSize = 1232

// maxAliases bounds a chain of CNAMEs.
const maxAliases = 8

// confCheck is how often the file with the name servers is looked at.
const confCheck = 5 * time.Second

// asker asks name servers.
type asker struct {
	timeout  time.Duration
	attempts int
	now      func() time.Time
	conf     string                   // "": the servers are fixed
	servers  atomic.Pointer[[]string] // replaced, never changed
	best     atomic.Uint32            // index of the server that answered last

	mu      sync.Mutex // the rest is for reading conf again
	checked time.Time
	changed time.Time
}

func newAsker(cfg *Config) *asker {
	a := &asker{timeout: cfg.Timeout, attempts: cfg.Attempts, now: cfg.Now}
	if len(cfg.Servers) > 0 {
		servers := append([]string(nil), cfg.Servers...)
		a.servers.Store(&servers)
	} else {
		a.conf = cfg.ResolvConf
	}
	return a
}

// list returns the name servers in the order in which to ask them.
func (a *asker) list() []string {
	if a.conf != "" {
		a.readConf()
	}
	servers := *a.servers.Load()
	best := int(a.best.Load()) % len(servers)
	return append(append([]string(nil), servers[best:]...), servers[:best]...)
}

// readConf reads the file if it has changed. Without a file the server is the
// local one, as for the C library.
func (a *asker) readConf() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.servers.Load() != nil && a.now().Sub(a.checked) < confCheck {
		return
	}
	a.checked = a.now()
	var changed time.Time
	if info, err := os.Stat(a.conf); err == nil {
		changed = info.ModTime()
	}
	if a.servers.Load() != nil && changed.Equal(a.changed) {
		return
	}
	a.changed = changed
	servers := []string{"127.0.0.1:53"}
	if conf, err := dns.ClientConfigFromFile(a.conf); err == nil && len(conf.Servers) > 0 {
		servers = servers[:0]
		for _, s := range conf.Servers {
			servers = append(servers, net.JoinHostPort(s, conf.Port))
		}
	}
	a.servers.Store(&servers)
}

// records returns the records of a type that a name has, behind whatever CNAMEs,
// and the least TTL of all that was used. The error is ErrNotFound, with the TTL
// of that, when there are none, and wraps ErrServer when nobody can tell.
func (a *asker) records(ctx context.Context, name string, qtype uint16) ([]dns.RR, time.Duration, error) {
	ttl := maxTTL
	name = dns.Fqdn(name)
	for range maxAliases {
		msg, err := a.query(ctx, name, qtype)
		if err != nil {
			return nil, 0, err
		}
		rrs, last, least := follow(msg, name, qtype)
		ttl = min(ttl, least)
		switch {
		case len(rrs) > 0:
			return rrs, ttl, nil
		case last == name || msg.Rcode == dns.RcodeNameError:
			return nil, min(ttl, negativeTTL(msg)), ErrNotFound
		}
		name = last // the answer ends with an alias: ask for what it means
	}
	return nil, noSOATTL, ErrNotFound
}

// follow goes from name along the CNAMEs of an answer, and returns the records of
// the type at its end. Records of other names are none of our business.
func follow(msg *dns.Msg, name string, qtype uint16) (rrs []dns.RR, last string, least time.Duration) {
	least = maxTTL
	for range maxAliases {
		alias := ""
		for _, rr := range msg.Answer {
			h := rr.Header()
			if !strings.EqualFold(h.Name, name) || h.Class != dns.ClassINET {
				continue
			}
			if h.Rrtype == qtype {
				rrs = append(rrs, rr)
				least = min(least, time.Duration(h.Ttl)*time.Second)
			} else if c, ok := rr.(*dns.CNAME); ok && alias == "" {
				alias = c.Target
				least = min(least, time.Duration(h.Ttl)*time.Second)
			}
		}
		if len(rrs) > 0 || alias == "" {
			break
		}
		name = alias
	}
	return rrs, name, least
}

// negativeTTL is RFC 2308 §5.
func negativeTTL(msg *dns.Msg) time.Duration {
	for _, rr := range msg.Ns {
		if soa, ok := rr.(*dns.SOA); ok {
			return time.Duration(min(soa.Hdr.Ttl, soa.Minttl)) * time.Second
		}
	}
	return noSOATTL
}

// query asks one server after the other until one knows.
func (a *asker) query(ctx context.Context, name string, qtype uint16) (*dns.Msg, error) {
	q := new(dns.Msg)
	q.SetQuestion(name, qtype)
	q.SetEdns0(udpSize, false)
	servers := a.list()
	var errs []error
	for range a.attempts {
		for i, server := range servers {
			msg, err := a.askOne(ctx, q, server)
			if err == nil {
				if i > 0 {
					a.prefer(server)
				}
				return msg, nil
			}
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			errs = append(errs, fmt.Errorf("%s: %w", server, err))
		}
	}
	return nil, fmt.Errorf("%w: %w", ErrServer, errors.Join(errs[:min(len(errs), len(servers))]...))
}

func (a *asker) prefer(server string) {
	for i, s := range *a.servers.Load() {
		if s == server {
			a.best.Store(uint32(i))
		}
	}
}

// askOne puts the question to one server: over UDP, over TCP too if the answer
// does not fit, and without EDNS if it knows none (RFC 6891 §7).
func (a *asker) askOne(ctx context.Context, q *dns.Msg, server string) (*dns.Msg, error) {
	msg, err := a.exchange(ctx, "udp", q, server)
	if err == nil && msg.Rcode == dns.RcodeFormatError && msg.IsEdns0() == nil {
		q = q.Copy()
		q.Extra = nil
		msg, err = a.exchange(ctx, "udp", q, server)
	}
	if err == nil && msg.Truncated {
		msg, err = a.exchange(ctx, "tcp", q, server)
	}
	if err != nil {
		return nil, err
	}
	if msg.Rcode != dns.RcodeSuccess && msg.Rcode != dns.RcodeNameError {
		return nil, fmt.Errorf("answered %s", dns.RcodeToString[msg.Rcode])
	}
	return msg, nil
}

// exchange sends the question from a socket of its own, with an ID of its own,
// so that an answer is hard to forge (RFC 5452), and takes none that answers
// something else.
func (a *asker) exchange(ctx context.Context, network string, q *dns.Msg, server string) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	client := &dns.Client{Net: network, Timeout: a.timeout, UDPSize: udpSize}
	conn, err := client.DialContext(ctx, server)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	q = q.Copy()
	q.Id = dns.Id()
	msg, _, err := client.ExchangeWithConnContext(ctx, q, conn)
	if err != nil {
		return nil, err
	}
	if !msg.Response || msg.Id != q.Id || len(msg.Question) != 1 ||
		msg.Question[0].Qtype != q.Question[0].Qtype || msg.Question[0].Qclass != q.Question[0].Qclass ||
		!strings.EqualFold(msg.Question[0].Name, q.Question[0].Name) {
		return nil, errors.New("answered another question")
	}
	return msg, nil
}
