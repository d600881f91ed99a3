package upstream_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sipward/policy"
	"sipward/proxy/upstream"
	"sipward/sip"
)

// fakePBX answers OPTIONS on loopback as it is told to.
type fakePBX struct {
	addr   netip.AddrPort
	conn   *net.UDPConn
	answer atomic.Pointer[func(request *sip.Message) []byte]
	got    atomic.Int64
	wg     sync.WaitGroup
}

func startPBX(t *testing.T, at string) *fakePBX {
	t.Helper()
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(at)))
	if err != nil {
		t.Fatal(err)
	}
	f := &fakePBX{conn: conn, addr: conn.LocalAddr().(*net.UDPAddr).AddrPort()}
	f.says(reply("200 OK"))
	f.wg.Go(f.serve)
	t.Cleanup(f.stop)
	return f
}

func (f *fakePBX) says(answer func(*sip.Message) []byte) { f.answer.Store(&answer) }

func (f *fakePBX) stop() { f.conn.Close(); f.wg.Wait() }

func (f *fakePBX) serve() {
	buf := make([]byte, 65535)
	for {
		n, from, err := f.conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		var m sip.Message
		if fault := m.Parse(buf[:n], false); fault != 0 || !m.IsRequest || m.Method != sip.MethodOptions {
			continue
		}
		f.got.Add(1)
		if b := (*f.answer.Load())(&m); b != nil {
			f.conn.WriteToUDPAddrPort(b, from)
		}
	}
}

// reply makes an answer with the given status line.
func reply(status string) func(*sip.Message) []byte {
	return func(m *sip.Message) []byte {
		b := []byte("SIP/2.0 " + status + "\r\n")
		for i := range m.Headers {
			switch m.Headers[i].ID {
			case sip.HeaderVia, sip.HeaderFrom, sip.HeaderTo, sip.HeaderCallID, sip.HeaderCSeq:
				b = append(b, m.Headers[i].Line.Of(m.Buf)...)
			}
		}
		return append(b, "Content-Length: 0\r\n\r\n"...)
	}
}

func silent(*sip.Message) []byte { return nil }

// mangled is a good answer in which one thing is another's.
func mangled(old, new string) func(*sip.Message) []byte {
	return func(m *sip.Message) []byte { return bytes.Replace(reply("200 OK")(m), []byte(old), []byte(new), 1) }
}

// quick probes fast, so that tests are.
func quick(list ...netip.AddrPort) upstream.Config {
	cfg := upstream.Config{
		Interval: 10 * time.Millisecond, Retry: 10 * time.Millisecond, Timeout: 60 * time.Millisecond, Fall: 2, Rise: 2,
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
	for _, a := range list {
		cfg.PBXes = append(cfg.PBXes, upstream.Target{Address: a, Weight: 1})
	}
	return cfg
}

func run(t *testing.T, cfg upstream.Config) *upstream.Pool {
	t.Helper()
	p := newPool(t, cfg)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(30 * time.Second):
			t.Error("Run does not end")
		}
	})
	return p
}

func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !cond(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for: %s", what)
		}
	}
}

func upIs(p *upstream.Pool, a netip.AddrPort, want bool) func() bool {
	return func() bool { return p.ByAddrPort(a).Up() == want }
}

func TestAnyFinalAnswerIsLife(t *testing.T) {
	for _, status := range []string{"200 OK", "404 Not Found", "401 Unauthorized", "483 Too Many Hops", "503 Service Unavailable", "600 Busy Everywhere"} {
		f := startPBX(t, "127.0.0.1:0")
		p := run(t, quick(f.addr))
		f.says(reply(status))
		eventually(t, status, func() bool { return f.got.Load() >= 5 })
		if s := p.State()[0]; !s.Up || s.Failures > 0 || s.RTT == 0 {
			t.Errorf("%s: %+v", status, s)
		}
	}
}

func TestWhatIsNotAnAnswer(t *testing.T) {
	for name, answer := range map[string]func(*sip.Message) []byte{
		"silence":         silent,
		"provisional":     reply("100 Trying"),
		"other branch":    mangled("z9hG4bK", "z9hG4bKx"),
		"other Call-ID":   mangled("Call-ID: ", "Call-ID: x"),
		"not SIP":         func(*sip.Message) []byte { return []byte("hello") },
		"empty":           func(*sip.Message) []byte { return []byte{} },
		"a request":       func(m *sip.Message) []byte { return m.Buf },
		"half an answer":  func(*sip.Message) []byte { return []byte("SIP/2.0 200") },
		"response no ids": func(*sip.Message) []byte { return []byte("SIP/2.0 200 OK\r\n\r\n") },
	} {
		f := startPBX(t, "127.0.0.1:0")
		if name == "other branch" || name == "other Call-ID" {
			// Replacing within a token keeps the token as a part; break it for good.
			whole := answer
			answer = func(m *sip.Message) []byte {
				b := whole(m)
				i := bytes.Index(b, []byte("x"))
				b[i+3] ^= 1
				return b
			}
		}
		f.says(answer)
		p := run(t, quick(f.addr))
		t.Run(name, func(t *testing.T) {
			eventually(t, "down", upIs(p, f.addr, false))
			if s := p.State()[0]; !strings.Contains(s.LastErr, "no answer") || s.Since.IsZero() {
				t.Errorf("state: %+v", s)
			}
			if p.Pick(account(1)) != nil {
				t.Error("the only PBX is down, and yet one is picked")
			}
			f.says(reply("200 OK"))
			eventually(t, "up again", upIs(p, f.addr, true))
		})
	}
}

func TestGoesDownAndComesUp(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "[::1]"} {
		t.Run(host, func(t *testing.T) {
			f := startPBX(t, host+":0")
			var mu sync.Mutex
			var changes []upstream.Change
			cfg := quick(f.addr)
			cfg.Timeout = time.Minute // a refusal must not wait for it
			cfg.OnChange = func(c upstream.Change) { mu.Lock(); changes = append(changes, c); mu.Unlock() }
			p := run(t, cfg)
			if !p.ByAddrPort(f.addr).Up() {
				t.Error("not up before the first probe")
			}
			eventually(t, "probes", func() bool { return f.got.Load() >= 3 })
			f.stop()
			eventually(t, "down", upIs(p, f.addr, false))
			startPBX(t, f.addr.String())
			eventually(t, "up", upIs(p, f.addr, true))
			eventually(t, "both reports", func() bool { mu.Lock(); defer mu.Unlock(); return len(changes) >= 2 })
			mu.Lock()
			defer mu.Unlock()
			if len(changes) != 2 || changes[0].Up || changes[0].Err == nil || !changes[1].Up || changes[0].Address != f.addr {
				t.Errorf("changes: %+v", changes)
			}
		})
	}
}

func TestOneLostProbeIsNoHarm(t *testing.T) {
	f := startPBX(t, "127.0.0.1:0")
	var n atomic.Int64
	f.says(func(m *sip.Message) []byte {
		if n.Add(1)%2 == 1 {
			return nil
		}
		return reply("200 OK")(m)
	})
	cfg := quick(f.addr)
	cfg.Timeout = 10 * time.Second
	p := run(t, cfg)
	eventually(t, "a retransmission", func() bool { return n.Load() >= 2 })
	eventually(t, "an answer", func() bool { return p.State()[0].RTT > 0 })
	if s := p.State()[0]; s.Failures != 0 || !s.Up {
		t.Errorf("state: %+v", s)
	}
}

func TestWhenOneGoesDownOnlyItsAccountsMove(t *testing.T) {
	var list []netip.AddrPort
	var pbxes []*fakePBX
	for range 3 {
		f := startPBX(t, "127.0.0.1:0")
		pbxes, list = append(pbxes, f), append(list, f.addr)
	}
	cfg := quick(list...)
	cfg.Timeout = 5 * time.Second
	cfg.PBXes[1].Weight = 2
	p := run(t, cfg)
	before := assign(p)
	pbxes[1].stop()
	eventually(t, "down", upIs(p, list[1], false))
	for i, now := range assign(p) {
		if now == 1 || before[i] != 1 && now != before[i] {
			t.Fatalf("account %d was on %d and is on %d", i, before[i], now)
		}
	}
	startPBX(t, list[1].String())
	eventually(t, "up", upIs(p, list[1], true))
	for i, now := range assign(p) {
		if now != before[i] {
			t.Fatalf("account %d was on %d and came back to %d", i, before[i], now)
		}
	}
}

func TestReserveTakesOver(t *testing.T) {
	main, reserve := startPBX(t, "127.0.0.1:0"), startPBX(t, "127.0.0.1:0")
	cfg := quick(main.addr, reserve.addr)
	cfg.Timeout = 5 * time.Second
	cfg.PBXes[1].Weight = 0
	p := run(t, cfg)
	if got := p.Pick(account(1)).Addr(); got != main.addr {
		t.Errorf("picked %v", got)
	}
	main.stop()
	eventually(t, "the reserve", func() bool { pbx := p.Pick(account(1)); return pbx != nil && pbx.Addr() == reserve.addr })
	reserve.stop()
	eventually(t, "none", func() bool { return p.Pick(account(1)) == nil && p.PickStream(account(1)) == nil })
}

func TestOneThatTalksToPhonesIsAlive(t *testing.T) {
	f := startPBX(t, "127.0.0.1:0")
	f.says(silent)
	p := run(t, quick(f.addr))
	pbx := p.ByAddrPort(f.addr)
	for end := f.got.Load() + 5; f.got.Load() < end; time.Sleep(time.Millisecond) {
		pbx.Heard(time.Now().UnixNano())
		if !pbx.Up() {
			t.Fatal("it is taken for down")
		}
	}
	eventually(t, "down after it fell silent", upIs(p, f.addr, false))
}

// TestClockSetBack: what was noted before the clock was set back makes no dead PBX alive, and keeps connections from no PBX for
// longer than it should.
func TestClockSetBack(t *testing.T) {
	f, other := startPBX(t, "127.0.0.1:0"), startPBX(t, "127.0.0.1:0")
	p := run(t, quick(f.addr, other.addr))
	pbx := p.ByAddrPort(f.addr)
	pbx.Heard(time.Now().Add(time.Hour).UnixNano())
	f.says(silent)
	eventually(t, "down, although it was heard in the future", upIs(p, f.addr, false))
	f.says(reply("200 OK"))
	eventually(t, "up again", upIs(p, f.addr, true))
	pbx.Avoid(time.Now().Add(time.Hour))
	for i := range 100 {
		if p.Pick(account(i)) == pbx && p.PickStream(account(i)) != pbx {
			t.Fatal("connections avoid it for an hour")
		}
	}
}

// acceptAll does something with each connection and closes it, until l is closed; wait waits
// for that.
func acceptAll(l net.Listener, do func(net.Conn)) (wait func()) {
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			do(c)
			c.Close()
		}
	})
	return wg.Wait
}

func TestTCPProbe(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var accepted atomic.Int64
	wait := acceptAll(l, func(net.Conn) { accepted.Add(1) })
	addr := l.Addr().(*net.TCPAddr).AddrPort()
	cfg := quick(addr)
	cfg.Transport = policy.TCP
	cfg.Local = func(netip.Addr) netip.Addr { return netip.MustParseAddr("127.0.0.1") }
	p := run(t, cfg)
	eventually(t, "probes", func() bool { return accepted.Load() >= 3 })
	l.Close()
	wait()
	eventually(t, "down", upIs(p, addr, false))
}

func TestLocalAddress(t *testing.T) {
	f := startPBX(t, "127.0.0.1:0")
	var via atomic.Value
	f.says(func(m *sip.Message) []byte { via.Store(string(m.Via.Host.Of(m.Buf))); return reply("200 OK")(m) })
	cfg := quick(f.addr)
	cfg.Local = func(netip.Addr) netip.Addr { return netip.MustParseAddr("127.0.0.9") }
	run(t, cfg)
	eventually(t, "a probe", func() bool { return via.Load() != nil })
	if via.Load() != "127.0.0.9" {
		t.Errorf("Via names %v", via.Load())
	}
}

func TestReloadStartsAndStopsProbes(t *testing.T) {
	one, two := startPBX(t, "127.0.0.1:0"), startPBX(t, "127.0.0.1:0")
	p := run(t, quick(one.addr))
	eventually(t, "probes of the first", func() bool { return one.got.Load() >= 2 })
	if err := p.Reload(quick(two.addr)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "probes of the second", func() bool { return two.got.Load() >= 2 })
	before := one.got.Load()
	eventually(t, "more", func() bool { return two.got.Load() >= 10 })
	if n := one.got.Load() - before; n > 1 {
		t.Errorf("%d probes of a PBX that is gone", n)
	}

	two.says(silent)
	eventually(t, "down", upIs(p, two.addr, false))
	off := quick(two.addr)
	off.Interval = -1
	if err := p.Reload(off); err != nil {
		t.Fatal(err)
	}
	eventually(t, "up, since nobody probes", upIs(p, two.addr, true))
}

func TestMarkDownDivertsConnections(t *testing.T) {
	one, two := startPBX(t, "127.0.0.1:0"), startPBX(t, "127.0.0.1:0")
	cfg := quick(one.addr, two.addr)
	cfg.Interval, cfg.Timeout = time.Hour, 5*time.Second
	p := run(t, cfg)
	eventually(t, "the first probes", func() bool { return one.got.Load() == 1 && two.got.Load() == 1 })
	acc := account(1)
	first := p.Pick(acc)
	p.MarkDown(first, errors.New("refused"))
	second := p.PickStream(acc)
	if second == first || second == nil {
		t.Error("new connections go on to a PBX that refused one")
	}
	if p.Pick(acc) != first {
		t.Error("datagrams moved because a connection was refused")
	}
	p.MarkDown(second, errors.New("refused"))
	if p.PickStream(acc) != first {
		t.Error("with no other left, connections are not tried at all")
	}
	eventually(t, "probes out of turn", func() bool { return one.got.Load() >= 2 && two.got.Load() >= 2 })
	if s := p.State(); !s[0].Refusing || !s[1].Refusing || !s[0].Up {
		t.Errorf("state: %+v", s)
	}
}
