package tftp_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	pin "github.com/pin/tftp/v3"
	"go.uber.org/goleak"

	"sipward/policy"
	"sipward/policy/ban"
	"sipward/policy/iplist"
	"sipward/tftp"
	"sipward/tftp/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is a running relay.
type rig struct {
	*tftp.Server
	t      *testing.T
	engine *policy.Engine
	bans   *ban.Table
	addr   netip.AddrPort
	stop   func()
}

func defaults() tftp.Settings {
	return tftp.Settings{
		Threshold: 100, Period: time.Minute, LimitedRate: 10, Action: policy.Action{Kind: policy.ActionDrop},
		Missing: 30, MissingAction: policy.Action{Kind: policy.ActionBan},
	}
}

// newRig starts a relay in front of a server.
func newRig(t *testing.T, upstream netip.AddrPort, s tftp.Settings, allow ...string) *rig {
	t.Helper()
	return newRigAt(t, netip.MustParseAddrPort("127.0.0.1:0"), upstream, s, allow...)
}

func newRigAt(t *testing.T, at, upstream netip.AddrPort, s tftp.Settings, allow ...string) *rig {
	t.Helper()
	bans, err := ban.New(ban.Config{Threshold: 5}, time.Now().UnixNano())
	if err != nil {
		t.Fatal(err)
	}
	var allowed []iplist.Entry
	for _, a := range allow {
		allowed = append(allowed, iplist.Entry{Prefix: netip.MustParsePrefix(a)})
	}
	e := policy.New(policy.Config{Bans: bans, Allow: iplist.New(allowed), Sources: 1024})
	srv, err := tftp.New(tftp.Config{Listen: []netip.AddrPort{at}, Upstream: upstream, Engine: e, Settings: s})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- srv.Run(ctx) }()
	r := &rig{Server: srv, t: t, engine: e, bans: bans, addr: srv.Addrs()[0]}
	stopped := false
	r.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(r.stop)
	return r
}

// reason is how many requests have met that fate.
func (r *rig) reason(x policy.Reason) int { return int(r.engine.Counters().Snapshot()[x]) }

// serve starts Files with a folder of test files.
func serve(t *testing.T) (dir string, addr netip.AddrPort) {
	t.Helper()
	dir = t.TempDir()
	f, err := tftp.NewFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return dir, f.Addr()
}

// file writes a test file.
func file(t *testing.T, dir, name string, size int) []byte {
	t.Helper()
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
		t.Fatal(err)
	}
	return b
}

func client(t *testing.T, at netip.AddrPort, blockSize int) *pin.Client {
	t.Helper()
	c, err := pin.NewClient(at.String())
	if err != nil {
		t.Fatal(err)
	}
	c.SetTimeout(2 * time.Second)
	c.SetRetries(3)
	if blockSize > 0 {
		c.SetBlockSize(blockSize)
	}
	return c
}

func get(c *pin.Client, name, mode string) ([]byte, error) {
	w, err := c.Receive(name, mode)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	_, err = w.WriteTo(&b)
	return b.Bytes(), err
}

// raw is a socket of a test that speaks TFTP by hand: a client, or a server.
type raw struct {
	*net.UDPConn
	t *testing.T
}

func newRaw(t *testing.T, at string) *raw {
	t.Helper()
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(at)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &raw{c, t}
}

func (c *raw) addr() netip.AddrPort { return c.LocalAddr().(*net.UDPAddr).AddrPort() }

func (c *raw) send(to netip.AddrPort, b []byte) {
	c.t.Helper()
	if _, err := c.WriteToUDPAddrPort(b, to); err != nil {
		c.t.Fatal(err)
	}
}

// take returns what comes next.
func (c *raw) take() ([]byte, netip.AddrPort) {
	c.t.Helper()
	b, from, ok := c.next(5 * time.Second)
	if !ok {
		c.t.Fatal("nothing came")
	}
	return b, from
}

// nothing fails the test if anything comes within a short time.
func (c *raw) nothing() {
	c.t.Helper()
	if b, from, ok := c.next(100 * time.Millisecond); ok {
		c.t.Fatalf("%v came from %v: %.40q", wire.OpOf(b), from, b)
	}
}

func (c *raw) next(within time.Duration) ([]byte, netip.AddrPort, bool) {
	c.t.Helper()
	b := make([]byte, 70000)
	if err := c.SetReadDeadline(time.Now().Add(within)); err != nil {
		c.t.Fatal(err)
	}
	n, from, err := c.ReadFromUDPAddrPort(b)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, from, false
	}
	if err != nil {
		c.t.Fatal(err)
	}
	return b[:n], netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), true
}

func request(op wire.Op, texts ...string) []byte {
	b := binary.BigEndian.AppendUint16(nil, uint16(op))
	for _, s := range texts {
		b = append(append(b, s...), 0)
	}
	return b
}

func numbered(op wire.Op, n int, data []byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, uint16(op))
	return append(binary.BigEndian.AppendUint16(b, uint16(n)), data...)
}

func data(n int, b []byte) []byte { return numbered(wire.OpData, n, b) }
func ack(n int) []byte            { return numbered(wire.OpAck, n, nil) }

// wait polls.
func wait(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within 10 s", what)
		}
	}
}
