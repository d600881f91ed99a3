//go:build linux

package lab

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sipward/e2e/phone"
)

// SIPp is one run of SIPp in the wan.
type SIPp struct {
	*Process
	name, messages, errors string
}

// SIPpConfig says what SIPp runs.
type SIPpConfig struct {
	Name     string          // of its log
	Scenario string          // path of the XML file
	Local    netip.AddrPort  // its address
	Remote   netip.AddrPort  // where it sends; of a server: where it answers to anyway
	Over     phone.Transport // a connection is one for all calls
	TLS      *SIPpTLS        // of TLS and WSS
	Calls    int             // it ends after so many
	Rate     int             // calls a second; 0: one
	Users    []string
	Called   string // whom the scenario calls
	Domain   string // of users and called
	Args     []string
}

// SIPpTLS names files. SIPp has to have a certificate also where nobody asks for one.
type SIPpTLS struct {
	Certificate, Key string
	CA               string // whom it trusts; empty: anybody
}

// sippTLS is the SIPp that knows TLS and WebSocket, which runs with libraries of its own.
func sippTLS() []string {
	root := cached("sipp-tls")
	libraries, err := os.Readlink(filepath.Join(root, "loader"))
	if err != nil {
		return []string{filepath.Join(root, "loader")}
	}
	return []string{filepath.Join(root, "loader"), "--library-path", filepath.Join(root, filepath.Dir(libraries)), filepath.Join(root, "usr/bin/sipp")}
}

// StartSIPp starts SIPp. Each of Users becomes a line USER;[authentication …];CALLED;DOMAIN of the injection file: field0 to
// field3.
func (l *Lab) StartSIPp(t *testing.T, c SIPpConfig) *SIPp {
	t.Helper()
	s, err := l.startSIPp(c)
	if err != nil {
		t.Fatalf("start SIPp %s: %v", c.Name, err)
	}
	return s
}

func (l *Lab) startSIPp(c SIPpConfig) (*SIPp, error) {
	scenario, err := filepath.Abs(c.Scenario)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(l.dir, "sipp-"+c.Name+"-")
	if err != nil {
		return nil, err
	}
	transport := map[phone.Transport]string{phone.UDP: "u1", phone.TCP: "t1", phone.TLS: "l1", phone.WS: "w1", phone.WSS: "x1"}[c.Over]
	program := []string{"sipp"}
	if c.Over != phone.UDP && c.Over != phone.TCP {
		program = sippTLS()
	}
	if c.TLS != nil {
		program = append(program, "-tls_cert", c.TLS.Certificate, "-tls_key", c.TLS.Key)
		if c.TLS.CA != "" {
			program = append(program, "-tls_ca", c.TLS.CA)
		}
	}
	args := append(program, c.Remote.String(), "-sf", scenario, "-i", bracketed(c.Local.Addr()), "-p", fmt.Sprint(c.Local.Port()),
		"-t", transport, "-m", fmt.Sprint(c.Calls), "-r", fmt.Sprint(max(1, c.Rate)), "-nostdin", "-timer_resol", "10",
		// A repeated answer to what SIPp itself has repeated is no reason to give a call up.
		"-default_behaviors", "all,-abortunexp",
		"-trace_msg", "-message_file", filepath.Join(dir, "messages"), "-trace_err", "-error_file", filepath.Join(dir, "errors"))
	if len(c.Users) > 0 {
		text := "SEQUENTIAL\n"
		for _, u := range c.Users {
			text += fmt.Sprintf("%[1]s;[authentication username=%[1]s password=pw-%[1]s];%[2]s;%[3]s\n", u, c.Called, c.Domain)
		}
		inject := filepath.Join(dir, "users.csv")
		if err := os.WriteFile(inject, []byte(text), 0o644); err != nil {
			return nil, err
		}
		args = append(args, "-inf", inject)
	}
	p, err := l.Start(l.WAN, "sipp-"+c.Name, append(args, c.Args...)...)
	if err != nil {
		return nil, err
	}
	return &SIPp{Process: p, name: c.Name, messages: filepath.Join(dir, "messages"), errors: filepath.Join(dir, "errors")}, nil
}

func bracketed(a netip.Addr) string {
	if a.Is6() {
		return "[" + a.String() + "]"
	}
	return a.String()
}

// Wait waits until SIPp has made its calls, and fails the test if any of them did not go as its scenario says.
func (s *SIPp) Wait(t *testing.T, within time.Duration) {
	t.Helper()
	select {
	case <-s.Done():
	case <-time.After(within):
		s.Kill()
		t.Fatalf("SIPp %s did not end within %v\n%s", s.name, within, s.Trace())
	}
	if s.Err() != nil {
		t.Fatalf("SIPp %s: %v\n%s", s.name, s.Err(), s.Trace())
	}
}

// Trace gives the beginnings and ends of SIPp's message and error traces.
func (s *SIPp) Trace() string {
	var b strings.Builder
	for _, path := range []string{s.errors, s.messages} {
		text, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		if len(text) > 12000 {
			text = append(append(text[:6000:6000], "\n…\n"...), text[len(text)-6000:]...)
		}
		fmt.Fprintf(&b, "──── SIPp %s, %s\n%s\n", s.name, filepath.Base(path), text)
	}
	return b.String()
}
