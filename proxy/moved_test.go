package proxy_test

import (
	"context"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/dtls/v3"

	"sipward/policy"
	"sipward/policy/ban"
	"sipward/proxy/flow"
	"sipward/sip/siptest"
)

// roamer is the socket of a DTLS client that sends from another address than that at which
// it reads, from some time on.
type roamer struct {
	*net.UDPConn
	out atomic.Pointer[net.UDPConn]
	to  *net.UDPAddr
}

func (r *roamer) WriteTo(b []byte, _ net.Addr) (int, error) { return r.out.Load().WriteToUDP(b, r.to) }

func bound(tb testing.TB, addr string) *net.UDPConn {
	tb.Helper()
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.ParseIP(addr)})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { c.Close() })
	return c
}

// TestMovedIsNotProven: whoever has an association with a connection ID can write anybody's
// address on what he sends. It is he who answers for that.
func TestMovedIsNotProven(t *testing.T) {
	bans, err := ban.New(ban.Config{}, time.Now().UnixNano())
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, rigOptions{more: []policy.Transport{policy.DTLS}, policy: func(c *policy.Config) {
		c.Bans = bans
		c.Malformed = policy.Malformed{Threshold: 5, Period: time.Minute, Action: policy.Action{Kind: policy.ActionBan}}
		c.Register.BlockTime = time.Hour
	}})
	own := bound(t, "127.0.1.66")
	socket := &roamer{UDPConn: own, to: net.UDPAddrFromAddrPort(r.at(flow.Outside, policy.DTLS))}
	socket.out.Store(own)
	c, err := dtls.ClientWithOptions(socket, socket.to, dtls.WithRootCAs(r.authority.Pool()), dtls.WithServerName("edge.example.com"),
		dtls.WithConnectionIDGenerator(dtls.OnlySendCIDGenerator()))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := c.HandshakeContext(ctx); err != nil {
		t.Fatal(err)
	}
	send := func(b []byte) {
		t.Helper()
		if _, err := c.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	send(siptest.Register(siptest.Options{Transport: "DTLS-UDP"}))
	r.pbx.receive()
	socket.out.Store(bound(t, "127.0.1.77"))
	for range 20 {
		send([]byte("no SIP at all\r\n\r\n"))
	}
	forged, from := netip.MustParseAddr("127.0.1.77"), netip.MustParseAddr("127.0.1.66")
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		now := time.Now().UnixNano()
		if b, ok := bans.Lookup(forged, now); ok {
			t.Fatalf("the forged address is banned: %+v", b)
		}
		if b, ok := bans.Lookup(from, now); ok && b.Proven {
			return
		}
		if now > end.UnixNano() {
			t.Fatal("nobody is banned")
		}
	}
}
