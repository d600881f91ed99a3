package tftp

import (
	"encoding/binary"
	"net"
	"net/netip"
	"testing"
	"time"

	"sipward/policy"
	"sipward/tftp/wire"
)

// path is a transfer under way, whose packets a test hands over by itself.
func path(t testing.TB) *transfer {
	server, client := socket(t), socket(t)
	s, err := New(Config{
		Upstream: addr(server), Engine: policy.New(policy.Config{Sources: 64}),
		Settings: Settings{Threshold: 100, Period: time.Minute, LimitedRate: 10},
	})
	if err != nil {
		t.Fatal(err)
	}
	go discard(server)
	go discard(client)
	x := &transfer{s: s, client: addr(client), request: []byte("\x00\x01a\x00octet\x00blksize\x001428\x00")}
	x.options = wire.Options{BlockSize: 1428, Count: 1}
	x.relay = relay{blockSize: wire.DefaultBlockSize, window: 1}
	if err := x.open(netip.MustParseAddr("127.0.0.1")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(x.shut)
	if _, ok := s.transfers.add(x, 1, 1); !ok {
		t.Fatal("not taken in")
	}
	x.down([]byte("\x00\x06blksize\x001428\x00"), s.cfg.Upstream, 1)
	x.up([]byte{0, 4, 0, 0}, 2)
	if !x.proven {
		t.Fatal("not proven")
	}
	return x
}

func socket(t testing.TB) *net.UDPConn {
	c, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func addr(c *net.UDPConn) netip.AddrPort { return c.LocalAddr().(*net.UDPAddr).AddrPort() }

func discard(c *net.UDPConn) {
	b := make([]byte, 2048)
	for {
		if _, err := c.Read(b); err != nil {
			return
		}
	}
}

// block passes one block and its acknowledgement.
func (t *transfer) block(data, ack []byte, n int) {
	binary.BigEndian.PutUint16(data[2:], uint16(n))
	binary.BigEndian.PutUint16(ack[2:], uint16(n))
	t.down(data, t.s.cfg.Upstream, int64(n))
	t.up(ack, int64(n))
}

func TestPathNoAllocs(t *testing.T) {
	x := path(t)
	data, ack := make([]byte, 4+1428), []byte{0, 4, 0, 0}
	data[1] = byte(wire.OpData)
	n := 0
	if a := testing.AllocsPerRun(500, func() { n++; x.block(data, ack, n) }); a > 0 {
		t.Errorf("%v allocations for a block and its acknowledgement", a)
	}
	if got := x.s.stats.toClient.Load(); got < 500*1432 {
		t.Errorf("%d bytes have passed", got)
	}
}

// TestTimeouts: each kind of waiting has its end.
func TestTimeouts(t *testing.T) {
	sec := int64(time.Second)
	for name, c := range map[string]struct {
		r           relay
		lives, ends int64
	}{
		"no answer":           {relay{}, 10 * sec, 10*sec + 1},
		"no acknowledgement":  {relay{answered: true, serverAt: 5 * sec, patience: 765 * sec, idle: 30 * sec}, 35 * sec, 35*sec + 1},
		"no more of a client": {relay{answered: true, proven: true, clientAt: 5 * sec, serverAt: 90 * sec, patience: 30 * sec}, 35 * sec, 35*sec + 1},
		"completed":           {relay{answered: true, proven: true, done: true, clientAt: 5 * sec, patience: 30 * sec}, 10 * sec, 10*sec + 1},
	} {
		x := &transfer{relay: c.r}
		if x.expired(c.lives) || !x.expired(c.ends) {
			t.Errorf("%s: ended at its limit %v, after it %v", name, x.expired(c.lives), x.expired(c.ends))
		}
	}
}

// TestPatience: a client that has agreed on long timeouts is given the time.
func TestPatience(t *testing.T) {
	x := &transfer{options: wire.Options{Timeout: 60, Count: 1}, relay: relay{patience: 30 * int64(time.Second), blockSize: 512}}
	b := []byte("\x00\x06timeout\x0060\x00")
	if !x.opens(wire.OpOAck, b) || x.patience != 180*int64(time.Second) {
		t.Errorf("patience is %v", time.Duration(x.patience))
	}
}

// FuzzPackets: whatever comes from either side in whatever order, before the client has
// shown its address no more than one packet goes to it, and none that is larger than
// what was agreed on at any time.
func FuzzPackets(f *testing.F) {
	f.Add([]byte("\x01\x06blksize\x001428\x00"), []byte("\x00\x04\x00\x00"), []byte("\x01\x03\x00\x01data"))
	f.Add([]byte("\x01\x03\x00\x01data"), []byte("\x01\x03\x00\x02data"), []byte("\x00\x04\x00\x01"))
	f.Add([]byte("\x01\x05\x00\x01none\x00"), []byte("\x00\x05\x00\x00bye\x00"), []byte("\x00"))
	server := netip.MustParseAddrPort("192.0.2.1:1000")
	f.Fuzz(func(t *testing.T, a, b, c []byte) {
		for _, write := range []bool{false, true} {
			x := &transfer{s: &Server{cfg: Config{Upstream: server}}, write: write, options: wire.Options{BlockSize: 1428, WindowSize: 4, Count: 2}}
			x.relay = relay{blockSize: wire.DefaultBlockSize, window: 1}
			sent := 0
			for i, p := range [][]byte{a, b, c, b, a, c} {
				if len(p) == 0 {
					continue
				}
				if p[0]&1 == 0 {
					x.fromClient(p[1:], int64(i))
					continue
				}
				before := x.proven
				w := x.fromServer(p[1:], server, int64(i))
				if w != forward && w != forwardAndEnd {
					continue
				}
				if sent++; !before && sent > 1 {
					t.Fatalf("packet %d for a client that has not shown its address: %q", sent, p)
				}
				if len(p[1:]) > wire.HeaderSize+max(x.blockSize, wire.MaxRequest) {
					t.Fatalf("%d bytes pass", len(p)-1)
				}
			}
		}
	})
}

func BenchmarkBlock(b *testing.B) {
	x := path(b)
	data, ack := make([]byte, 4+1428), []byte{0, 4, 0, 0}
	data[1] = byte(wire.OpData)
	b.SetBytes(1428)
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		n++
		x.block(data, ack, n)
	}
}

// BenchmarkJudge is the same without the system calls.
func BenchmarkJudge(b *testing.B) {
	x := path(b)
	data, ack := make([]byte, 4+1428), []byte{0, 4, 0, 0}
	data[1] = byte(wire.OpData)
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		n++
		binary.BigEndian.PutUint16(data[2:], uint16(n))
		binary.BigEndian.PutUint16(ack[2:], uint16(n))
		x.fromServer(data, x.s.cfg.Upstream, int64(n))
		x.fromClient(ack, int64(n))
	}
}
