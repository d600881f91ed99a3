//go:build linux

package lab

import (
	"embed"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"text/template"
	"time"
)

//go:embed peers
var peers embed.FS

// Accounts of both PBXes; the password of 1001 is pw-1001, and so on. Calls to 1009 are given up after 3 s.
var (
	Plain  = []string{"1001", "1002", "1003", "1004", "1005", "1008", "1009"}
	NAT    = []string{"1101", "1102", "1103", "1104", "1105"} // Asterisk: rewrite_contact, rtp_symmetric, qualify
	Direct = []string{"1006", "1007"}                         // Asterisk: direct_media, so that it sends re-INVITEs itself
)

// Numbers that Asterisk answers itself.
const (
	EchoNumber   = "600"
	BusyNumber   = "601"
	SilentNumber = "602" // rings, is never answered
	HangupNumber = "603" // answers, and hangs up after a second
)

// peerConfig is what the templates see.
type peerConfig struct {
	Dir                     string
	Addr, Addr6, Proxy      netip.Addr
	Plain, NAT, Direct, All []string
	Trunks                  []Trunk
	Peer                    netip.Addr
	External                netip.Addr
	Certificate, Key        string // of its TLS port; empty: it has none
}

// Trunk is a carrier that both PBXes call through sipward, their outbound proxy there.
type Trunk struct {
	Prefix string // the digit that numbers of this carrier begin with; the carrier gets what follows
	Name   string // under example.com, where its SRV records are
	TCP    bool
}

// Peer is a carrier that Asterisk knows by its address alone, as most are, and calls without a proxy: numbers that begin with 2
// go to its UDP port 5070, those with 3 to its TCP port 5060.
var Peer = Phone(63)

// Trunks are all carriers that are called through sipward.
var Trunks = []Trunk{
	{Prefix: "9", Name: "trunk"},
	{Prefix: "8", Name: "silent"},
	{Prefix: "7", Name: "stream", TCP: true},
	{Prefix: "5", Name: "six"},
	{Prefix: "4", Name: "six-stream", TCP: true},
}

func newPeerConfig(dir string, addr, addr6 netip.Addr) peerConfig {
	all := append(append(append([]string(nil), Plain...), NAT...), Direct...)
	return peerConfig{Dir: dir, Addr: addr, Addr6: addr6, Proxy: EdgePBX, Plain: Plain, NAT: NAT, Direct: Direct, All: all,
		Trunks: Trunks, Peer: Peer}
}

// render writes one of the templates to a file.
func (c peerConfig) render(name, path string) error {
	t, err := template.ParseFS(peers, "peers/"+name)
	if err != nil {
		return fmt.Errorf("parse %s: %w", name, err)
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(t.Execute(f, c), f.Close())
}

// PBX is a registrar and call router behind sipward.
type PBX interface {
	Name() string
	Addr() netip.Addr
	// Domain of its accounts.
	Domain() string
	// Contacts gives the contact URIs that are registered for an account.
	Contacts(user string) ([]string, error)
	// Stop ends it at once.
	Stop()
}

// Asterisk is an unmodified Asterisk in its own tree.
type Asterisk struct {
	*Process
	addr netip.Addr
	conf string // path inside the tree
}

var _ PBX = (*Asterisk)(nil)

func asteriskRoot() string { return cached("asterisk") }

// cached is where e2e/setup.sh keeps what it does not install.
func cached(name string) string {
	cache := os.Getenv("E2E_CACHE")
	if cache == "" {
		cache = "/var/cache/sipward-test"
	}
	return filepath.Join(cache, name)
}

// StartAsterisk starts Asterisk on the PBX host and waits until it is ready.
func (l *Lab) StartAsterisk(t *testing.T) *Asterisk {
	t.Helper()
	inside := filepath.Join("/tmp", l.prefix)
	dir := filepath.Join(asteriskRoot(), inside)
	for _, sub := range []string{"cache", "db", "etc", "keys", "log/cdr-csv", "run", "spool"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	l.onClose(func() { _ = os.RemoveAll(dir) })
	// Debian's own configuration, but for what makes it a PBX for these tests.
	if err := os.CopyFS(filepath.Join(dir, "etc"), os.DirFS(filepath.Join(asteriskRoot(), "etc/asterisk"))); err != nil {
		t.Fatalf("copy Asterisk's configuration: %v", err)
	}
	c := newPeerConfig(inside, PBX1, PBX1v6)
	c.External = l.External
	if l.Certificate != nil {
		certificate, key := l.Certificate.Write(t, filepath.Join(dir, "keys"), "pbx")
		c.Certificate, c.Key = filepath.Join(inside, "keys", filepath.Base(certificate)), filepath.Join(inside, "keys", filepath.Base(key))
	}
	for _, name := range []string{"asterisk.conf", "modules.conf", "logger.conf", "pjsip.conf", "extensions.conf", "rtp.conf"} {
		if err := c.render(name, filepath.Join(dir, "etc", name)); err != nil {
			t.Fatalf("configure Asterisk: %v", err)
		}
	}
	a := &Asterisk{addr: c.Addr, conf: filepath.Join(inside, "etc", "asterisk.conf")}
	var err error
	if a.Process, err = l.Start(l.PBX, "asterisk", "chroot", asteriskRoot(), "asterisk", "-f", "-n", "-C", a.conf); err != nil {
		t.Fatal(err)
	}
	Poll(t, time.Minute, "Asterisk is up", func() error {
		out, err := a.CLI("core waitfullybooted")
		if err == nil && !strings.Contains(out, "fully booted") {
			err = errors.New(out)
		}
		return err
	})
	if _, err := a.CLI("pjsip set logger on"); err != nil {
		t.Fatal(err)
	}
	return a
}

// CLI runs an Asterisk command and gives what it printed.
func (a *Asterisk) CLI(command string) (string, error) {
	out, err := exec.Command("chroot", asteriskRoot(), "asterisk", "-C", a.conf, "-rx", command).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("ask Asterisk %q: %w: %s", command, err, out)
	}
	return string(out), nil
}

// Name implements PBX.
func (a *Asterisk) Name() string { return "asterisk" }

// Addr implements PBX.
func (a *Asterisk) Addr() netip.Addr { return a.addr }

// Domain implements PBX: phones of an office often know their PBX by address alone.
func (a *Asterisk) Domain() string { return EdgeWAN.String() }

// Stop implements PBX.
func (a *Asterisk) Stop() { a.Kill() }

// Contacts implements PBX.
func (a *Asterisk) Contacts(user string) ([]string, error) {
	// The tables of "pjsip show contacts" cut URIs off; the registrar's own store has them whole.
	out, err := a.CLI("database show registrar/contact")
	if err != nil {
		return nil, err
	}
	var uris []string
	for _, line := range strings.Split(out, "\n") {
		if !strings.HasPrefix(line, "/registrar/contact/"+user+";@") {
			continue
		}
		_, after, _ := strings.Cut(line, `"uri":"`)
		uri, _, _ := strings.Cut(after, `"`)
		uris = append(uris, strings.ReplaceAll(uri, `\/`, "/"))
	}
	return uris, nil
}
