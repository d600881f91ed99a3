//go:build linux

// The end-to-end tests run the built sipward between real peers, in network namespaces that they make (package lab draws
// them). They need root and the peers that setup.sh installs; E2E_REQUIRE=1 turns a skip into a failure.
//
//	go test ./e2e/...                           everything
//	E2E_DIRECT=1 go test ./e2e/...      what makes sense without sipward, straight to the PBX: tests the tests
//	E2E_RACE=1 go test ./e2e/...        with a sipward that detects races
//	E2E_FULL=1 go test -run PolicyFlood ./e2e   with the strongest floods, on a machine that does nothing else
package e2e_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"sipward/e2e/lab"
	"sipward/e2e/phone"
	"sipward/proxy/certs/certstest"
)

// labs is what all tests of this process share.
var labs *lab.Run

func TestMain(m *testing.M) {
	var err error
	if labs, err = lab.Start(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-stop
		labs.Close()
		os.Exit(1)
	}()
	code := m.Run()
	labs.Close()
	os.Exit(code)
}

// direct says that phones speak to the PBX itself: a test of the tests.
var direct = os.Getenv("E2E_DIRECT") != ""

// site is a PBX with sipward in front of it, and a way to make phones.
type site struct {
	*lab.Lab
	pbx     lab.PBX
	sipward *lab.Sipward      // nil when direct
	unseen  bool              // sipward changes nothing that is sent
	trust   *tls.Config       // what phones know of certificates
	shown   *certstest.Issued // the certificate that sipward has
	dns     *lab.Zone         // that of the carriers
}

// proxy is where phones send to.
func (s *site) proxy(v6 bool) netip.AddrPort {
	a := lab.EdgeWAN
	switch {
	case s.bare() && v6:
		a = lab.PBX1v6
	case s.bare():
		a = s.pbx.Addr()
	case v6:
		a = lab.EdgeWAN6
	}
	return netip.AddrPortFrom(a, 5060)
}

// door is where phones of that transport send to.
func (s *site) door(w wire) netip.AddrPort {
	return netip.AddrPortFrom(s.proxy(w.v6).Addr(), w.over.Port())
}

// bare says that phones speak to the PBX's own address.
func (s *site) bare() bool { return direct || s.unseen }

// start puts sipward in front of the PBX.
func (s *site) start(t *testing.T, cfg lab.Config) {
	t.Helper()
	if direct {
		s.Direct(t)
		return
	}
	if cfg.Placement != "" {
		s.unseen = true
		s.Direct(t) // the edge is a router
	}
	s.sipward = s.StartSipward(t, cfg)
}

// wire is a transport under test.
type wire struct {
	over phone.Transport
	v6   bool
}

func (w wire) String() string {
	name, _, _ := strings.Cut(strings.ToLower(w.over.String()), "-")
	if w.v6 {
		name += "6"
	}
	return name
}

// phone makes a phone of that account on the n-th address for phones.
func (s *site) phone(t *testing.T, w wire, user string, n int) *phone.Phone {
	t.Helper()
	return s.phoneWith(t, w, phone.Config{User: user}, n)
}

// phoneWith fills in what the configuration leaves open.
func (s *site) phoneWith(t *testing.T, w wire, cfg phone.Config, n int) *phone.Phone {
	t.Helper()
	if cfg.Password == "" {
		cfg.Password = "pw-" + cfg.User
	}
	if cfg.Domain == "" {
		cfg.Domain = s.pbx.Domain()
	}
	if cfg.Net == nil {
		cfg.Net = s.WAN
	}
	if !cfg.Proxy.IsValid() {
		cfg.Proxy = s.door(w)
	}
	if !cfg.Local.IsValid() {
		a := lab.Phone(n)
		if w.v6 {
			a = lab.Phone6(n)
		}
		cfg.Local = netip.AddrPortFrom(a, 0)
	}
	if cfg.TLS == nil {
		cfg.TLS = s.trust
	}
	cfg.Transport = w.over
	p, err := phone.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(p.Trace())
		}
	})
	return p
}

// registered makes a phone and registers it.
func (s *site) registered(t *testing.T, w wire, user string, n int) *phone.Phone {
	t.Helper()
	p := s.phone(t, w, user, n)
	register(t, p)
	return p
}

// patience is how long one exchange may take on a machine that is busy with other tests.
const patience = 15 * time.Second

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// register registers a phone, takes the registration back at the end, and fails on anything but 200.
func register(t *testing.T, p *phone.Phone) *phone.Received {
	t.Helper()
	r := want(t, 200)(p.Register(within(t, patience), 300))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		_, _ = p.Register(ctx, 0)
	})
	return r
}

// want gives a check for an exchange: it must succeed with that status.
func want(t *testing.T, status int) func(*phone.Received, error) *phone.Received {
	return func(r *phone.Received, err error) *phone.Received {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		if r.Status() != status {
			t.Fatalf("answer %q, want %d", r.StartLine(), status)
		}
		return r
	}
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}
