package tftp_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"sipward/policy"
	"sipward/policy/ban"
	"sipward/tftp/wire"
)

var localhost = netip.MustParseAddr("127.0.0.1")

// missing is a server that has no file.
func missing(t *testing.T) netip.AddrPort {
	_, addr := serve(t)
	return addr
}

// TestLimit: what is over the limit is dropped, and the administrator is told.
func TestLimit(t *testing.T) {
	s := defaults()
	s.Threshold, s.Missing = 10, 0
	for _, c := range []struct {
		name    string
		action  policy.ActionKind
		allow   []string
		reached int
		banned  bool
		notice  policy.NoticeKind
		notices int
	}{
		{"drop", policy.ActionDrop, nil, 10, false, policy.NoticeRequestLimit, 1},
		{"ban", policy.ActionBan, nil, 10, true, policy.NoticeBan, 1},
		{"watch", policy.ActionWatch, nil, 30, false, policy.NoticeWouldBan, 1},
		{"notify", policy.ActionNotify, nil, 30, false, policy.NoticeWouldBan, 1},
		{"allowed", policy.ActionBan, []string{"127.0.0.1/32"}, 30, false, policy.NoticeBan, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			s.Action = policy.Action{Kind: c.action}
			server := newRaw(t, "127.0.0.1:0")
			r := newRig(t, server.addr(), s, c.allow...)
			for i := range 30 {
				newRaw(t, "127.0.0.1:0").send(r.addr, request(wire.OpRRQ, fmt.Sprint("f", i), "octet"))
			}
			wait(t, "all requests are handled", func() bool {
				n := 0
				for _, m := range r.engine.Counters().Snapshot() {
					n += int(m)
				}
				return n == 30
			})
			for range c.reached {
				server.take()
			}
			server.nothing()
			if x, ok := r.bans.Lookup(localhost, time.Now().UnixNano()); ok != c.banned || ok && (x.Proven || x.Until-x.Start != int64(5*time.Minute)) {
				t.Errorf("the ban: %+v, %v", x, ok)
			}
			n := 0
			for _, x := range r.engine.Notices(0) {
				if x.Kind == c.notice {
					n++
				}
			}
			if n != c.notices {
				t.Errorf("the notices are %+v", r.engine.Notices(0))
			}
			if c.action == policy.ActionDrop {
				if counts, limited := r.Counts(localhost, time.Now().UnixNano()); !limited || !strings.Contains(fmt.Sprint(counts), "requests for files 11 10") {
					t.Errorf("explained as %v", counts)
				}
				if st := r.Stats(); st.Limited != 1 {
					t.Errorf("%+v", st)
				}
				if !r.Forgive(localhost, time.Now().UnixNano()) {
					t.Error("it was not limited")
				}
				newRaw(t, "127.0.0.1:0").send(r.addr, request(wire.OpRRQ, "again", "octet"))
				server.take()
			}
		})
	}
}

// TestSweep: who tries the names of many phones is banned, for a short time, because
// others could have asked in his name. A phone that asks again and again is not.
func TestSweep(t *testing.T) {
	s := defaults()
	s.Threshold = 1000
	r := newRig(t, missing(t), s)
	for range 100 {
		if _, err := get(client(t, r.addr, 0), "0004f2aabbcc.cfg", "octet"); err == nil {
			t.Fatal("the file is there")
		}
	}
	if _, banned := r.bans.Lookup(localhost, time.Now().UnixNano()); banned {
		t.Fatal("a phone that asks for one file 100 times is banned")
	}
	for i := range 29 {
		_, _ = get(client(t, r.addr, 0), fmt.Sprintf("0004f2%06x.cfg", i), "octet")
	}
	var x ban.Record
	wait(t, "the ban", func() (ok bool) {
		x, ok = r.bans.Lookup(localhost, time.Now().UnixNano())
		return ok
	})
	if x.Proven || x.Until-x.Start != int64(5*time.Minute) || x.Guard != "enumeration" || !strings.Contains(string(x.Evidence), "0004f2000018.cfg") {
		t.Errorf("the ban: %+v %s", x, x.Evidence)
	}
	c := newRaw(t, "127.0.0.1:0")
	c.send(r.addr, request(wire.OpRRQ, "a", "octet"))
	c.nothing()
}

// TestSweepDropped: without bans a sweeper is refused for a period.
func TestSweepDropped(t *testing.T) {
	s := defaults()
	s.MissingAction = policy.Action{Kind: policy.ActionDrop}
	dir, addr := serve(t)
	file(t, dir, "there", 5)
	r := newRig(t, addr, s)
	for i := range 30 {
		_, _ = get(client(t, r.addr, 0), fmt.Sprintf("0004f2%06x.cfg", i), "octet")
	}
	c := newRaw(t, "127.0.0.1:0")
	c.send(r.addr, request(wire.OpRRQ, "there", "octet"))
	c.nothing()
	if n := r.reason(policy.ReasonEnumeration); n != 1 {
		t.Errorf("%d requests refused", n)
	}
}

// TestBanCuts: a ban ends what is under way.
func TestBanCuts(t *testing.T) {
	server := newRaw(t, "127.0.0.1:0")
	r := newRig(t, server.addr(), defaults())
	c, child := newRaw(t, "127.0.0.1:0"), newRaw(t, "127.0.0.1:0")
	begin := func() netip.AddrPort {
		c.send(r.addr, request(wire.OpRRQ, "a", "octet"))
		_, relay := server.take()
		child.send(relay, data(1, make([]byte, 512)))
		_, at := c.take()
		c.send(at, ack(1))
		child.take()
		return relay
	}
	relay := begin()
	if n := r.CloseSource(netip.MustParsePrefix("127.0.0.0/8")); n != 1 {
		t.Errorf("%d transfers were closed", n)
	}
	if b, _ := child.take(); wire.OpOf(b) != wire.OpError {
		t.Errorf("the server is told %q", b)
	}
	child.send(relay, data(2, make([]byte, 512)))
	c.nothing()
	// Even if nobody tells us of the ban.
	begin()
	now := time.Now().UnixNano()
	if _, err := r.bans.Add(ban.Record{Prefix: netip.PrefixFrom(localhost, 32), Kind: ban.Manual, Start: now, Until: now + int64(time.Hour)}, now); err != nil {
		t.Fatal(err)
	}
	wait(t, "the transfer ends", func() bool { return r.Stats().Open == 0 })
}

// TestCaps: transfers are bounded for each source and in all; one whose client is not
// known to exist makes room, one that is under way does not.
func TestCaps(t *testing.T) {
	s := defaults()
	s.MaxTransfers, s.MaxPerSource = 6, 4
	server := newRaw(t, "127.0.0.1:0")
	r := newRig(t, server.addr(), s)
	child := newRaw(t, "127.0.0.1:0")
	ask := func(from string) *raw {
		c := newRaw(t, from+":0")
		c.send(r.addr, request(wire.OpRRQ, "a", "octet"))
		return c
	}
	// Four of one source, and under way.
	for range 4 {
		c := ask("127.0.0.1")
		_, relay := server.take()
		child.send(relay, data(1, make([]byte, 512)))
		_, at := c.take()
		c.send(at, ack(1))
		child.take()
	}
	ask("127.0.0.1")
	server.nothing()
	wait(t, "it is refused", func() bool { return r.reason(policy.ReasonTFTPBusy) == 1 })
	// A hundred that never answer.
	for i := range 100 {
		ask(fmt.Sprintf("127.0.1.%d", i+1))
		server.take()
	}
	wait(t, "the oldest make room", func() bool { return r.Stats().Evicted == 98 && r.Stats().Open == 6 })
	if st := r.Stats(); st.HalfOpen != 2 {
		t.Errorf("those under way did not stay: %+v", st)
	}
}

// TestStrangers: all strangers together have a budget of requests.
func TestStrangers(t *testing.T) {
	s := defaults()
	s.Strangers = 5
	server := newRaw(t, "127.0.0.1:0")
	r := newRig(t, server.addr(), s, "127.0.9.9/32")
	for i := range 50 {
		newRaw(t, fmt.Sprintf("127.0.1.%d:0", i+1)).send(r.addr, request(wire.OpRRQ, "a", "octet"))
	}
	wait(t, "they are handled", func() bool { return r.reason(policy.ReasonTFTPBusy)+r.reason(policy.ReasonPass) == 50 })
	if n := r.reason(policy.ReasonPass); n < 5 || n > 10 {
		t.Errorf("%d of 50 requests have passed", n)
	}
	newRaw(t, "127.0.9.9:0").send(r.addr, request(wire.OpRRQ, "known", "octet"))
	wait(t, "who is allowed passes", func() bool {
		b, _, ok := server.next(time.Second)
		return ok && bytes.Contains(b, []byte("known"))
	})
}

// TestMemoryUnderForgedRequests: what forged requests can make is bounded: sockets,
// goroutines and memory.
func TestMemoryUnderForgedRequests(t *testing.T) {
	server := newRaw(t, "127.0.0.1:0")
	s := defaults()
	s.MaxTransfers = 50
	r := newRig(t, server.addr(), s)
	stop := make(chan struct{})
	answered := make(chan struct{})
	go func() { // the most costly answer
		defer close(answered)
		b := make([]byte, 600)
		oack := request(wire.OpOAck, "blksize", "65464", "windowsize", "64")
		for {
			_ = server.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
			if _, from, err := server.ReadFromUDPAddrPort(b); err == nil {
				_, _ = server.WriteToUDPAddrPort(oack, from)
				continue
			}
			select {
			case <-stop:
				return
			default:
			}
		}
	}()
	rrq := request(wire.OpRRQ, "a", "octet", "blksize", "65464", "windowsize", "64")
	var before, after runtime.MemStats
	for round := range 2 {
		for i := range 2000 {
			// Closed at once: nobody is there to answer, as with a forged source.
			c := newRaw(t, fmt.Sprintf("127.%d.%d.%d:0", 1+round, i>>8, i&255))
			c.send(r.addr, rrq)
			c.Close()
			if i%50 == 0 {
				wait(t, "requests are handled", func() bool { return r.reason(policy.ReasonPass) >= round*2000+i })
			}
		}
		runtime.GC()
		if round == 0 {
			runtime.ReadMemStats(&before)
		}
	}
	runtime.ReadMemStats(&after)
	wait(t, "all are handled", func() bool { return r.Stats().Started == 4000 })
	if st := r.Stats(); st.Open > 50 {
		t.Errorf("%+v", st)
	}
	if n := runtime.NumGoroutine(); n > 2*50+30 {
		t.Errorf("%d goroutines", n)
	}
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 16<<20 {
		t.Errorf("2,000 more forged requests cost %d bytes", grown)
	}
	close(stop)
	<-answered
}

// TestReloadKeepsCounts: a reload that leaves the limit alone does not free anybody.
func TestReloadKeepsCounts(t *testing.T) {
	s := defaults()
	s.Threshold, s.LimitedRate = 1, 0
	server := newRaw(t, "127.0.0.1:0")
	r := newRig(t, server.addr(), s)
	c := newRaw(t, "127.0.0.1:0")
	c.send(r.addr, request(wire.OpRRQ, "a", "octet"))
	server.take()
	s.AllowAbsolute = true
	r.Reload(s)
	c.send(r.addr, request(wire.OpRRQ, "b", "octet"))
	c.send(r.addr, request(wire.OpRRQ, "c", "octet"))
	wait(t, "they are dropped", func() bool { return r.reason(policy.ReasonTFTPLimit) == 2 })
}
