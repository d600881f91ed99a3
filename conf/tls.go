package conf

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// TLS says which certificates are shown, and asked for.
type TLS struct {
	// Certificates are chosen by the name that a client asks for; the first is shown to
	// those who ask for none, or for another.
	Certificates []Certificate
	// MinVersion is 1.2 or 1.3.
	MinVersion TLSVersion
	// ClientCA names the PEM file that certificates of clients are checked against; there
	// if and only if ClientAuth is not ClientAuthNone.
	ClientCA string
	// ClientAuth says whether clients are asked for one.
	ClientAuth ClientAuth
	// Trunks are the SIP domains (RFC 5922) whose certificates make a client a trunk, in
	// small letters.
	Trunks []string
	// TrunkCA names the PEM file that certificates of trunks are checked against which
	// sipward connects to. Empty: what the system trusts.
	TrunkCA string
	// ACME obtains certificates.
	ACME ACME
	// HandshakeTimeout is how long a handshake may take.
	HandshakeTimeout time.Duration
	// MaxHandshakes is how many may be under way at once, MaxHandshakesPerSource how many
	// of them by one source, which is not more.
	MaxHandshakes, MaxHandshakesPerSource int
	// HandshakeRate is how many handshakes a second one source may begin, HandshakeBurst how many
	// at once. Rate 0: any number.
	HandshakeRate, HandshakeBurst int
}

// Certificate names the PEM files of a certificate and of its key. It is comparable.
type Certificate struct{ Certificate, Key string }

func (c Certificate) String() string { return c.Certificate + " with " + c.Key }

// TLSVersion is a version of TLS.
type TLSVersion uint8

// The versions.
const (
	TLS12 TLSVersion = iota
	TLS13
)

func (v TLSVersion) String() string { return [...]string{"1.2", "1.3"}[v] }

// ClientAuth says whether clients are asked for a certificate.
type ClientAuth uint8

// The ways to ask.
const (
	ClientAuthNone    ClientAuth = iota
	ClientAuthRequest            // one that is not trusted is as good as none
	ClientAuthRequire            // no connection without
)

func (a ClientAuth) String() string { return [...]string{"none", "request", "require"}[a] }

// ACME says which certificates are obtained, and from whom. Without Domains, none.
type ACME struct {
	// Domains each get a certificate, in small letters.
	Domains []string
	// Email is where the authority writes to. Empty: nowhere.
	Email string
	// Directory is the URL of the authority.
	Directory string
	// CAFile holds the authorities for the directory itself. Empty: those of the system.
	CAFile string
	// Agree says that the authority's terms are agreed to; true where there are Domains.
	Agree bool
	// Challenge is how the authority sees that the domains are ours.
	Challenge Challenge
	// Port is where it asks. Zero: 80 for HTTP-01, 443 for TLS-ALPN-01.
	Port int
}

// Challenge is how an authority sees that a domain is ours.
type Challenge uint8

// The challenges.
const (
	ChallengeHTTP Challenge = iota // RFC 8555 §8.3
	ChallengeTLS                   // RFC 8737
)

func (c Challenge) String() string { return [...]string{"http-01", "tls-alpn-01"}[c] }

// port is where the authority asks.
func (a *ACME) port() uint16 {
	switch {
	case a.Port != 0:
		return uint16(a.Port)
	case a.Challenge == ChallengeTLS:
		return 443
	}
	return 80
}

// PBXTLS says how a PBX is spoken to over TLS.
type PBXTLS struct {
	// Port is that of TLS, on the PBX's address.
	Port int
	// Name is what its certificate must be for, a name or an address. Empty: its address.
	Name string
	// CA names the PEM file that it is checked against. Empty: what the system trusts.
	CA string
	// Pins are hashes of its certificate or key, which are checked instead. Empty: none.
	Pins []Pin
}

func (t PBXTLS) String() string {
	text := "port " + strconv.Itoa(t.Port)
	if t.Name != "" {
		text += " name " + t.Name
	}
	if t.CA != "" {
		text += " ca " + t.CA
	}
	for _, p := range t.Pins {
		text += " pin " + p.String()
	}
	return text
}

// Pin is the SHA-256 of a certificate or of its public key.
type Pin [sha256.Size]byte

func (p Pin) String() string { return pinPrefix + hex.EncodeToString(p[:]) }

const pinPrefix = "sha256:"

const letsEncrypt = "https://acme-v02.api.letsencrypt.org/directory"

// tlsKeys are about certificates and handshakes.
func tlsKeys() []key {
	version := oneOf(nil, choice[TLSVersion]{"1.2", TLS12}, choice[TLSVersion]{"1.3", TLS13})
	auth := oneOf(nil, choice[ClientAuth]{"none", ClientAuthNone}, choice[ClientAuth]{"request", ClientAuthRequest}, choice[ClientAuth]{"require", ClientAuthRequire})
	challenge := oneOf(nil, choice[Challenge]{"http-01", ChallengeHTTP}, choice[Challenge]{"tls-alpn-01", ChallengeTLS})
	domains := listOf("list of host names", scalar("host name", parseHostName))
	return []key{
		bind("tls.certificates", "[]", onReload, listOf("list of sections", certificateItem()), func(c *Config) *[]Certificate { return &c.TLS.Certificates }),
		bind("tls.min_version", `"1.2"`, onReload, version, func(c *Config) *TLSVersion { return &c.TLS.MinVersion }),
		bind("tls.client_auth", "none", onReload, auth, func(c *Config) *ClientAuth { return &c.TLS.ClientAuth }),
		bind("tls.client_ca", `""`, onReload, orNone(path("file")), func(c *Config) *string { return &c.TLS.ClientCA }),
		bind("tls.trunks", "[]", onReload, domains, func(c *Config) *[]string { return &c.TLS.Trunks }),
		bind("tls.trunk_ca", `""`, onReload, orNone(path("file")), func(c *Config) *string { return &c.TLS.TrunkCA }),
		bind("tls.acme.domains", "[]", onReload, domains, func(c *Config) *[]string { return &c.TLS.ACME.Domains }),
		bind("tls.acme.agree", "false", onReload, trueOrFalse(), func(c *Config) *bool { return &c.TLS.ACME.Agree }),
		bind("tls.acme.email", `""`, onReload, orNone(word("mail address", mailRule)), func(c *Config) *string { return &c.TLS.ACME.Email }),
		bind("tls.acme.directory", letsEncrypt, onReload, word("URL https://…", directoryRule), func(c *Config) *string { return &c.TLS.ACME.Directory }),
		bind("tls.acme.ca_file", `""`, onReload, orNone(path("file")), func(c *Config) *string { return &c.TLS.ACME.CAFile }),
		bind("tls.acme.challenge", "http-01", onReload, challenge, func(c *Config) *Challenge { return &c.TLS.ACME.Challenge }),
		bind("tls.acme.port", "0", onReload, wholeNumber(0, 65535), func(c *Config) *int { return &c.TLS.ACME.Port }),
		bind("tls.handshake_timeout", "5s", onRestart, duration(100*time.Millisecond, time.Minute), func(c *Config) *time.Duration { return &c.TLS.HandshakeTimeout }),
		bind("tls.max_handshakes", "1024", onRestart, wholeNumber(1, 100_000), func(c *Config) *int { return &c.TLS.MaxHandshakes }),
		bind("tls.max_handshakes_per_source", "64", onRestart, wholeNumber(1, 100_000), func(c *Config) *int { return &c.TLS.MaxHandshakesPerSource }),
		bind("tls.handshake_rate", "50", onRestart, wholeNumber(0, 1_000_000), func(c *Config) *int { return &c.TLS.HandshakeRate }),
		bind("tls.handshake_burst", "500", onRestart, wholeNumber(1, 1_000_000), func(c *Config) *int { return &c.TLS.HandshakeBurst }),
	}
}

// certificateItem reads the two files of a certificate; in one line FILE;key=FILE.
func certificateItem() kind[Certificate] {
	check := func(d *decoder, key string, n *node, given []string, _ *Certificate) {
		for _, name := range []string{"certificate", "key"} {
			if !slices.Contains(given, name) {
				d.fail(n.at, join(key, name), "the file is missing; write its name, PEM is expected in it")
			}
		}
	}
	return inOneLine("certificate", item("a certificate", Certificate{}, check,
		in("certificate", "", path("file"), func(c *Certificate) *string { return &c.Certificate }),
		in("key", "", path("file"), func(c *Certificate) *string { return &c.Key }),
	))
}

// pbxTLS reads how a PBX is spoken to over TLS.
func pbxTLS(start PBXTLS) kind[PBXTLS] {
	return item("how TLS is spoken", start, checkPBXTLS,
		in("port", strconv.Itoa(start.Port), wholeNumber(1, 65535), func(t *PBXTLS) *int { return &t.Port }),
		in("name", "", scalar("host name or address", parsePeerName), func(t *PBXTLS) *string { return &t.Name }),
		in("ca", "", path("file"), func(t *PBXTLS) *string { return &t.CA }),
		in("pins", "[]", listOf("list of sha256:HASH", scalar("sha256:HASH", parsePin)), func(t *PBXTLS) *[]Pin { return &t.Pins }),
	)
}

func checkPBXTLS(d *decoder, key string, n *node, given []string, t *PBXTLS) {
	for _, name := range []string{"name", "ca"} {
		if len(t.Pins) > 0 && slices.Contains(given, name) {
			d.fail(n.fieldAt(name), join(key, name), "it is not looked at where there are pins; remove one of them")
		}
	}
}

func parsePeerName(text string) (string, error) {
	if a, err := netip.ParseAddr(strings.Trim(text, "[]")); err == nil && a.Zone() == "" {
		return a.Unmap().String(), nil
	}
	name, err := parseHostName(text)
	if err != nil {
		err = fmt.Errorf("%s is neither a host name nor an address; write what stands in the PBX's certificate, such as pbx.example.com", quote(text))
	}
	return name, err
}

var pinForm = regexp.MustCompile(`^[0-9a-fA-F]{64}$`)

// parsePin reads a hash, also with the colons that openssl writes.
func parsePin(text string) (Pin, error) {
	digits, ok := strings.CutPrefix(text, pinPrefix)
	digits = strings.ReplaceAll(digits, ":", "")
	if !ok || !pinForm.MatchString(digits) {
		return Pin{}, fmt.Errorf("%s is not a pin; write sha256: and the 64 hexadecimal digits of the hash of the PBX's certificate or public key", quote(text))
	}
	sum, err := hex.DecodeString(digits)
	if err != nil {
		return Pin{}, err
	}
	return Pin(sum), nil
}

func directoryRule(text string) error {
	if u, err := url.Parse(text); err != nil || u.Scheme != "https" || u.Host == "" {
		return fmt.Errorf("%s is not the URL of an ACME directory; write one that begins with https://, as the authority publishes it", quote(text))
	}
	return nil
}

func (d *decoder) checkTLS(c *Config) {
	t := &c.TLS
	if d.clean("tls.max_handshakes", "tls.max_handshakes_per_source") && t.MaxHandshakesPerSource > t.MaxHandshakes {
		d.fail(d.at("tls.max_handshakes_per_source", "tls.max_handshakes"), "tls.max_handshakes_per_source", "%d is more than tls.max_handshakes (%d); make it smaller", t.MaxHandshakesPerSource, t.MaxHandshakes)
	}
	if d.clean("tls.client_auth", "tls.client_ca") {
		switch {
		case t.ClientAuth != ClientAuthNone && t.ClientCA == "":
			d.fail(d.at("tls.client_auth"), "tls.client_ca", "without authorities no certificate of a client could be trusted; name the file that has them")
		case t.ClientAuth == ClientAuthNone && t.ClientCA != "":
			d.fail(d.at("tls.client_ca"), "tls.client_auth", `clients are not asked for certificates; write "client_auth: request" beside it, or remove this`)
		}
	}
	if d.clean("tls.client_auth", "tls.trunks") && len(t.Trunks) > 0 && t.ClientAuth == ClientAuthNone {
		d.fail(d.at("tls.trunks"), "tls.client_auth", `clients are not asked for certificates; write "client_auth: request" and client_ca beside it, or remove this`)
	}
	if d.clean("tls.certificates") {
		for i, p := range t.Certificates {
			if slices.Contains(t.Certificates[:i], p) {
				d.fail(d.values["tls.certificates"].itemAt(i), itemKey("tls.certificates", i), "%s is listed twice; remove one of them", p)
			}
		}
	}
	d.checkACME(c)
	if c.Mode == ModeProxy && d.clean("mode", "listen.outside", "listen.inside", "tls.certificates", "tls.acme.domains", "pbx") {
		d.checkCertified(c)
	}
}

func (d *decoder) checkACME(c *Config) {
	a := &c.TLS.ACME
	if !d.clean("tls.acme.domains", "tls.acme.agree", "tls.acme.challenge", "tls.acme.port") || len(a.Domains) == 0 {
		return
	}
	if !a.Agree {
		d.fail(d.at("tls.acme.domains"), "tls.acme.agree", `the authority (%s) issues to those only who agree to its terms; read them and write "agree: true"`, a.Directory)
	}
	for i, name := range a.Domains {
		if slices.Contains(a.Domains[:i], name) {
			d.fail(d.values["tls.acme.domains"].itemAt(i), itemKey("tls.acme.domains", i), "%s is listed twice; remove one of them", name)
		}
	}
	if c.Mode != ModeProxy || !d.clean("listen.outside", "listen.inside") {
		return
	}
	if l, ok := c.ChallengeListener(); ok && (a.Challenge == ChallengeHTTP || !l.Transport.Certified()) {
		d.fail(d.at("tls.acme.port", "tls.acme.domains"), "tls.acme.port",
			"the authority would find %s at port %d, which cannot answer it (%s); choose the other tls.acme.challenge, or have its questions forwarded to another port of this machine and write that", l, a.port(), a.Challenge)
	}
}

// ChallengeListener returns the first listener that has the port where the authority's
// questions arrive. Once c is checked, it is one that can answer them.
func (c *Config) ChallengeListener() (Listener, bool) {
	for _, l := range slices.Concat(c.Listen.Outside, c.Listen.Inside) {
		if !l.Transport.Datagrams() && l.Addr.Port() == c.TLS.ACME.port() {
			return l, true
		}
	}
	return Listener{}, false
}

// checkCertified finds listeners without a certificate, and certificates without listeners.
func (d *decoder) checkCertified(c *Config) {
	t := &c.TLS
	some := len(t.Certificates) > 0 || len(t.ACME.Domains) > 0
	used := slices.ContainsFunc(c.PBX, func(p PBX) bool { return p.Speaks(TransportTLS) })
	for _, b := range slices.Concat(d.bound("listen.outside", c.Listen.Outside), d.bound("listen.inside", c.Listen.Inside)) {
		if !b.Transport.Certified() {
			continue
		}
		if used = true; !some {
			d.fail(b.at, b.key, "%s needs a certificate; write its files under tls.certificates, or tls.acme.domains to obtain one", b)
			return
		}
	}
	if some && !used {
		d.fail(d.at("tls.certificates", "tls.acme.domains"), "listen.outside", "nothing uses the certificate; add tls://ADDRESS:%d to listen.outside, or remove it", sipsPort)
	}
}
