package conf

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"regexp"
	"strings"
)

// Control is how programs and people reach sipward itself.
type Control struct {
	// Socket is the unix socket that sipward's other commands talk to.
	Socket string
	// Mode holds the permission bits of the socket; none for others.
	Mode fs.FileMode
	// Group owns the socket. Empty: the group that sipward runs as.
	Group string
	// Listen holds the TCP addresses of the same API and of the dashboard. Empty: there
	// are none. Others than loopback ones are here only with a Certificate.
	Listen []netip.AddrPort
	// Certificate and CertificateKey name the PEM files for TLS; both or none.
	Certificate, CertificateKey string
	// Hosts holds host names, in small letters, that it is reached under beside its
	// addresses and the names in the certificate.
	Hosts []string
	// Tokens says who may use Listen.
	Tokens []Token
}

// Token lets its holder use the API over TCP. It is comparable.
type Token struct {
	Name string
	Role TokenRole
	// Hash is the SHA-256 of the token itself.
	Hash [32]byte
}

func (t Token) String() string {
	return t.Name + ":" + string(t.Role) + ":" + hex.EncodeToString(t.Hash[:])
}

// TokenRole is what a token is good for.
type TokenRole string

// The roles.
const (
	TokenRead  TokenRole = "read"  // to see everything
	TokenWrite TokenRole = "write" // to change what commands can change, too
)

func controlKeys() []key {
	addresses := listOf("list of ADDRESS:PORT", scalar("ADDRESS:PORT", parseControlAddress))
	hosts := listOf("list of host names", scalar("host name", parseHostName))
	return []key{
		bind("control.socket", "/run/sipward/sipward.sock", onRestart, path("file"), func(c *Config) *string { return &c.Control.Socket }),
		bind("control.mode", "0660", onRestart, fileMode(), func(c *Config) *fs.FileMode { return &c.Control.Mode }),
		bind("control.group", `""`, onRestart, group(), func(c *Config) *string { return &c.Control.Group }),
		bind("control.listen", "[]", onRestart, addresses, func(c *Config) *[]netip.AddrPort { return &c.Control.Listen }),
		bind("control.certificate", `""`, onReload, orNone(path("file")), func(c *Config) *string { return &c.Control.Certificate }),
		bind("control.certificate_key", `""`, onReload, orNone(path("file")), func(c *Config) *string { return &c.Control.CertificateKey }),
		bind("control.hosts", "[]", onReload, hosts, func(c *Config) *[]string { return &c.Control.Hosts }),
		bind("control.tokens", "[]", onReload, listOf("list of NAME:ROLE:HASH", scalar("NAME:ROLE:HASH", parseToken)), func(c *Config) *[]Token { return &c.Control.Tokens }),
	}
}

func parseControlAddress(text string) (netip.AddrPort, error) {
	if strings.Contains(text, "://") {
		return netip.AddrPort{}, fmt.Errorf("%s has a scheme; write ADDRESS:PORT alone, and control.certificate for https", quote(text))
	}
	_, port, err := splitPort(text)
	if err != nil {
		return netip.AddrPort{}, err
	}
	if port == "" {
		return netip.AddrPort{}, fmt.Errorf("%s has no port; write one behind the address, such as 127.0.0.1:8060", quote(text))
	}
	return parseAddrPort(text, 0)
}

func parseHostName(text string) (string, error) {
	if !validHost(text) || !looksLikeName(text) {
		return "", fmt.Errorf("%s is not a host name; write one such as edge1.example.com, without scheme and port", quote(text))
	}
	return strings.ToLower(strings.TrimSuffix(text, ".")), nil
}

var tokenNameForm = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

func parseToken(text string) (Token, error) {
	name, rest, _ := strings.Cut(text, ":")
	role, hash, _ := strings.Cut(rest, ":")
	t := Token{Name: name, Role: TokenRole(role)}
	if err := t.Check(); err != nil {
		return t, err
	}
	// The text may be the token itself, so it is not shown.
	sum, err := hex.DecodeString(hash)
	if err != nil || len(sum) != len(t.Hash) {
		return t, fmt.Errorf("what follows %s:%s: is not the hash of a token, which has %d hexadecimal digits; write the line that `sipward token new` prints", name, role, 2*len(t.Hash))
	}
	copy(t.Hash[:], sum)
	return t, nil
}

// Check says what is wrong with the name or the role.
func (t Token) Check() error {
	switch {
	case !tokenNameForm.MatchString(t.Name):
		return errors.New("a token's name has letters, digits and . _ - alone, at most 64, as in NAME:ROLE:HASH; write one such as grafana")
	case t.Role != TokenRead && t.Role != TokenWrite:
		return fmt.Errorf("%s is not a role of a token; write read or write", quote(string(t.Role)))
	}
	return nil
}

// checkControl sees to it that nothing secret travels unencrypted.
func (d *decoder) checkControl(c *Config) {
	t := c.Control
	if !d.clean("control.listen", "control.certificate", "control.certificate_key", "control.tokens") {
		return
	}
	switch {
	case t.Certificate != "" && t.CertificateKey == "":
		d.fail(d.at("control.certificate"), "control.certificate_key", "the key of control.certificate is missing; name its file")
	case t.Certificate == "" && t.CertificateKey != "":
		d.fail(d.at("control.certificate_key"), "control.certificate", "the certificate of control.certificate_key is missing; name its file")
	}
	seen := map[netip.AddrPort]bool{}
	for i, a := range t.Listen {
		at, key := d.values["control.listen"].itemAt(i), itemKey("control.listen", i)
		if seen[a] {
			d.fail(at, key, "%s is listed twice; remove one of them", a)
		}
		seen[a] = true
		if t.Certificate == "" && !a.Addr().IsLoopback() {
			d.fail(at, key, "%s can be reached from other machines, and without control.certificate everybody on the way could read the tokens; add control.certificate and control.certificate_key, or listen on 127.0.0.1", a)
		}
	}
	if len(t.Listen) > 0 && len(t.Tokens) == 0 {
		d.fail(d.at("control.listen"), "control.tokens", "nobody could use control.listen without a token; add the line that `sipward token new --role write NAME` prints")
	}
	names, hashes := map[string]bool{}, map[[32]byte]bool{}
	for i, k := range t.Tokens {
		if names[k.Name] || hashes[k.Hash] {
			d.fail(d.values["control.tokens"].itemAt(i), itemKey("control.tokens", i), "%s is listed twice; give each token a name of its own", k.Name)
		}
		names[k.Name], hashes[k.Hash] = true, true
	}
}
