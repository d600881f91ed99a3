//go:build linux

package lab

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sipward/proxy/certs/certstest"
)

// Baresip is a phone that is somebody else's program, on the wan's own address.
type Baresip struct {
	*Process
	conn net.Conn

	mu     sync.Mutex
	events []BaresipEvent
}

// BaresipEvent is one of those that baresip tells of.
type BaresipEvent struct {
	Type  string `json:"type"`  // REGISTER_OK, REGISTER_FAIL, CALL_INCOMING, CALL_ESTABLISHED, CALL_CLOSED, …
	Param string `json:"param"` // often the reason
	Peer  string `json:"peeruri"`
}

// BaresipConfig says who baresip is, and where it registers over TLS.
type BaresipConfig struct {
	User, Domain string
	Proxy        string // host:port
	CA           string // file with the authorities that it trusts; empty: it checks nothing
	Control      uint16 // a port on the wan's loopback address
	// Certificate is shown to who connects to baresip, as a PBX does that has no proxy before it.
	Certificate *certstest.Issued
}

// baresipModules is what a phone without a screen, sound card or keyboard needs.
const baresipModules = "module aubridge.so\nmodule g711.so\nmodule_tmp account.so\nmodule_app menu.so\nmodule_app ctrl_tcp.so\n"

// StartBaresip starts baresip, which registers at once, and answers every call by itself.
func (l *Lab) StartBaresip(t *testing.T, c BaresipConfig) *Baresip {
	t.Helper()
	dir, err := os.MkdirTemp(l.dir, "baresip-")
	if err != nil {
		t.Fatal(err)
	}
	found, err := filepath.Glob("/usr/lib/*/baresip/modules")
	if err != nil || len(found) == 0 {
		found = []string{"/usr/lib/baresip/modules"}
	}
	config := fmt.Sprintf("poll_method epoll\nsip_listen 0.0.0.0:0\naudio_player aubridge,here\naudio_source aubridge,here\naudio_alert aubridge,here\n"+
		"module_path %s\n%sctrl_tcp_listen 127.0.0.1:%d\nmenu_bell no\n", found[0], baresipModules, c.Control)
	if c.Certificate != nil {
		config += "sip_certificate " + c.Certificate.WriteBoth(t, dir, "own") + "\n"
	}
	if c.CA != "" {
		config += "sip_cafile " + c.CA + "\n"
	}
	account := fmt.Sprintf("<sip:%s@%s;transport=tls>;auth_pass=pw-%s;outbound=\"sip:%s;transport=tls\";regint=300;answermode=auto\n", c.User, c.Domain, c.User, c.Proxy)
	for name, text := range map[string]string{"config": config, "accounts": account, "contacts": "", "uuid": "00000000-0000-1000-8000-000a95a0e128"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b := &Baresip{}
	if b.Process, err = l.Start(l.WAN, "baresip", "baresip", "-s", "-f", dir); err != nil {
		t.Fatal(err)
	}
	Poll(t, 20*time.Second, "baresip listens to its control port", func() error {
		b.conn, err = l.WAN.DialTCP(netip.AddrPortFrom(loopback, 0), netip.AddrPortFrom(loopback, c.Control), time.Second)
		return err
	})
	l.onClose(func() { _ = b.conn.Close() })
	go b.read()
	return b
}

var loopback = netip.MustParseAddr("127.0.0.1")

// read notes what baresip tells, each a JSON object in a netstring.
func (b *Baresip) read() {
	for r := bufio.NewReader(b.conn); ; {
		var n int
		if _, err := fmt.Fscanf(r, "%d:", &n); err != nil || n < 0 || n > 1<<16 {
			return
		}
		text := make([]byte, n+1)
		if _, err := io.ReadFull(r, text); err != nil {
			return
		}
		var e BaresipEvent
		if json.Unmarshal(text[:n], &e) == nil && e.Type != "" {
			b.mu.Lock()
			b.events = append(b.events, e)
			b.mu.Unlock()
		}
	}
}

// Do gives baresip a command.
func (b *Baresip) Do(t *testing.T, command, params string) {
	t.Helper()
	text, err := json.Marshal(map[string]string{"command": command, "params": params})
	if err == nil {
		_, err = fmt.Fprintf(b.conn, "%d:%s,", len(text), text)
	}
	if err != nil {
		t.Fatalf("tell baresip to %s: %v", command, err)
	}
}

// Event waits until baresip has told of n events of those types since it started, and gives the last of them.
func (b *Baresip) Event(t *testing.T, n int, types ...string) BaresipEvent {
	t.Helper()
	var last BaresipEvent
	Poll(t, 30*time.Second, fmt.Sprintf("baresip tells of %s, %d times", strings.Join(types, " or "), n), func() error {
		b.mu.Lock()
		defer b.mu.Unlock()
		left := n
		for _, e := range b.events {
			if slices.Contains(types, e.Type) {
				last = e
				left--
			}
		}
		if left > 0 {
			return errors.New(fmt.Sprint(b.events))
		}
		return nil
	})
	return last
}
