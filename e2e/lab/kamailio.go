//go:build linux

package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Kamailio is a registrar and proxy.
type Kamailio struct {
	*Process
	addr netip.Addr
	ctl  string
}

var _ PBX = (*Kamailio)(nil)

// StartKamailio starts Kamailio on one of the PBX host's addresses and waits until it is ready.
func (l *Lab) StartKamailio(t *testing.T, addr netip.Addr) *Kamailio {
	t.Helper()
	l.mu.Lock()
	dir := filepath.Join(l.dir, fmt.Sprintf("kamailio-%d", len(l.processes)))
	l.mu.Unlock()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	a6 := PBX1v6.As16()
	a6[15] = addr.As4()[3]
	conf := filepath.Join(dir, "kamailio.cfg")
	c := newPeerConfig(dir, addr, netip.AddrFrom16(a6))
	if l.Certificate != nil {
		c.Certificate, c.Key = l.Certificate.Write(t, dir, "pbx")
	}
	if err := c.render("kamailio.cfg", conf); err != nil {
		t.Fatalf("configure Kamailio: %v", err)
	}
	k := &Kamailio{addr: addr, ctl: "unix:" + filepath.Join(dir, "ctl")}
	var err error
	if k.Process, err = l.Start(l.PBX, "kamailio-"+addr.String(), "kamailio", "-DD", "-E", "-m", "64", "-M", "8", "-Y", dir, "-f", conf); err != nil {
		t.Fatal(err)
	}
	Poll(t, 20*time.Second, "Kamailio is up", func() error {
		_, err := k.RPC("core.uptime")
		return err
	})
	return k
}

var errRPC = errors.New("refused")

// RPC asks Kamailio something and gives what it printed.
func (k *Kamailio) RPC(args ...string) (string, error) {
	out, err := exec.Command("kamcmd", append([]string{"-s", k.ctl}, args...)...).CombinedOutput()
	if err == nil && strings.HasPrefix(string(out), "error: ") { // kamcmd ends well all the same
		err = errRPC
	}
	if err != nil {
		return "", fmt.Errorf("ask Kamailio %q: %w: %s", args, err, out)
	}
	return string(out), nil
}

// Name implements PBX.
func (k *Kamailio) Name() string { return "kamailio" }

// Addr implements PBX.
func (k *Kamailio) Addr() netip.Addr { return k.addr }

// Domain implements PBX.
func (k *Kamailio) Domain() string { return "sip.example.com" }

// Stop implements PBX.
func (k *Kamailio) Stop() { k.Kill() }

var kamailioAddress = regexp.MustCompile(`(?m)^\s*Address: (\S+)$`)

// Contacts implements PBX.
func (k *Kamailio) Contacts(user string) ([]string, error) {
	out, err := k.RPC("ul.lookup", "location", "s:"+user) // s: a string, though it looks like a number
	if err != nil {
		if strings.Contains(err.Error(), "not found") {
			return nil, nil
		}
		return nil, err
	}
	var uris []string
	for _, m := range kamailioAddress.FindAllStringSubmatch(out, -1) {
		uris = append(uris, m[1])
	}
	return uris, nil
}

var kamailioValue = regexp.MustCompile(`value: (\d+)`)

// Seen is how many requests of that method have reached Kamailio.
func (k *Kamailio) Seen(method string) (int, error) {
	out, err := k.RPC("htable.get", "seen", method)
	if err != nil {
		if strings.Contains(err.Error(), "doesn't exist") {
			return 0, nil
		}
		return 0, err
	}
	m := kamailioValue.FindStringSubmatch(out)
	if m == nil {
		return 0, fmt.Errorf("count %s in Kamailio: %q", method, out)
	}
	return strconv.Atoi(m[1])
}

// AddAccount adds an account, whose password is like those of the others.
func (k *Kamailio) AddAccount(user string) error {
	_, err := k.RPC("htable.sets", "accounts", "s:"+user, "s:pw-"+user)
	return err
}

// Moods that an administrator's own configuration may have.
const (
	Overloaded = "overloaded" // everything is answered 503
	Talkative  = "talkative"  // who claims an account that does not exist is answered 404 (REGISTER) or 403
	Stateful   = "stateful"   // the challenge of an INVITE is repeated until its ACK
)

// SetMood turns a mood on or off.
func (k *Kamailio) SetMood(mood string, on bool) error {
	v := "0"
	if on {
		v = "1"
	}
	_, err := k.RPC("htable.seti", "mood", mood, v)
	return err
}
