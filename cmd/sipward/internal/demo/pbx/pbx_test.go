package pbx_test

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/emiago/sipgo"
	"go.uber.org/goleak"

	"sipward/cmd/sipward/internal/demo/pbx"
	"sipward/cmd/sipward/internal/demo/phone"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var accounts = []pbx.Account{{User: "1001", Password: "one"}, {User: "1002", Password: "two"}, {User: "1003", Password: "three"}}

func start(t *testing.T) netip.AddrPort {
	t.Helper()
	p, err := pbx.Listen(pbx.Config{Addr: netip.MustParseAddrPort("127.0.0.1:0"), Accounts: accounts})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return p.Addr()
}

func dial(t *testing.T, cfg phone.Config) *phone.Phone {
	t.Helper()
	cfg.Local = netip.MustParseAddr("127.0.0.1")
	p, err := phone.Listen(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func deadline(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func register(t *testing.T, p *phone.Phone, expires time.Duration, want int) []string {
	t.Helper()
	res, err := p.Register(deadline(t), expires)
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != want {
		t.Fatalf("REGISTER was answered %d, want %d", res.StatusCode, want)
	}
	var contacts []string
	for _, h := range res.GetHeaders("Contact") {
		contacts = append(contacts, h.Value())
	}
	return contacts
}

func TestRegistration(t *testing.T) {
	for _, transport := range []string{"udp", "tcp"} {
		t.Run(transport, func(t *testing.T) {
			addr := start(t)
			good := dial(t, phone.Config{Server: addr, Transport: transport, User: "1001", Password: "one"})
			if c := register(t, good, time.Minute, 200); len(c) != 1 {
				t.Errorf("contacts after registering: %q", c)
			}
			if c := register(t, good, time.Minute, 200); len(c) != 1 {
				t.Errorf("contacts after registering again: %q", c)
			}
			if c := register(t, good, 0, 200); len(c) != 0 {
				t.Errorf("contacts after unregistering: %q", c)
			}
			register(t, dial(t, phone.Config{Server: addr, Transport: transport, User: "1001", Password: "wrong"}), time.Minute, 401)
			register(t, dial(t, phone.Config{Server: addr, Transport: transport, User: "9999", Password: ""}), time.Minute, 401)
		})
	}
}

func TestEchoCall(t *testing.T) {
	for _, transport := range []string{"udp", "tcp"} {
		t.Run(transport, func(t *testing.T) {
			p := dial(t, phone.Config{Server: start(t), Transport: transport, User: "1001", Password: "one"})
			call(t, p, "600")
			call(t, p, "600")
		})
	}
}

// call calls a number that echoes, and listens.
func call(t *testing.T, p *phone.Phone, number string) {
	t.Helper()
	c, err := p.Call(deadline(t), number)
	if err != nil {
		t.Fatal(err)
	}
	heard, err := c.Speak(deadline(t), 10)
	if err != nil || heard != 10 {
		t.Errorf("heard %d of 10 packets, %v", heard, err)
	}
	if err := c.HangUp(deadline(t)); err != nil {
		t.Error(err)
	}
}

func TestCallBetweenAccounts(t *testing.T) {
	for _, tc := range []struct{ a, b string }{{"udp", "udp"}, {"tcp", "tcp"}, {"udp", "tcp"}, {"tcp", "udp"}} {
		t.Run(tc.a+" calls "+tc.b, func(t *testing.T) {
			addr := start(t)
			alice := dial(t, phone.Config{Server: addr, Transport: tc.a, User: "1001", Password: "one"})
			bob := dial(t, phone.Config{Server: addr, Transport: tc.b, User: "1002", Password: "two", Calls: phone.Answer})
			register(t, bob, time.Minute, 200)
			call(t, alice, "1002")
		})
	}
}

func TestCancelledCall(t *testing.T) {
	addr := start(t)
	alice := dial(t, phone.Config{Server: addr, User: "1001", Password: "one"})
	bob := dial(t, phone.Config{Server: addr, User: "1002", Password: "two", Calls: phone.Ring})
	register(t, bob, time.Minute, 200)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := alice.Call(ctx, "1002"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the call ended with %v", err)
	}
	for ctx := deadline(t); bob.Missed() == 0; time.Sleep(time.Millisecond) {
		if ctx.Err() != nil {
			t.Fatal("the called phone was not told that the caller gave up")
		}
	}
}

func TestRefusedCalls(t *testing.T) {
	addr := start(t)
	busy := dial(t, phone.Config{Server: addr, User: "1002", Password: "two"})
	register(t, busy, time.Minute, 200)
	for _, tc := range []struct {
		user, password, number string
		want                   int
	}{
		{"1001", "one", "1002", 486},
		{"1001", "one", "1003", 480},
		{"1001", "one", "5555", 404},
		{"1001", "wrong", "600", 401},
	} {
		p := dial(t, phone.Config{Server: addr, User: tc.user, Password: tc.password})
		_, err := p.Call(deadline(t), tc.number)
		var refused *sipgo.ErrDialogResponse
		if !errors.As(err, &refused) {
			t.Fatalf("%+v: %v", tc, err)
		}
		if refused.Res.StatusCode != tc.want {
			t.Errorf("%+v: got %d", tc, refused.Res.StatusCode)
		}
	}
}

func TestPortInUse(t *testing.T) {
	addr := start(t)
	if _, err := pbx.Listen(pbx.Config{Addr: addr}); err == nil {
		t.Error("bound a port that is in use")
	}
}
