package memio_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"

	"sipward/proxy/netio"
	"sipward/proxy/netio/memio"
)

type handlerFunc func(pkts []netio.Packet)

func (f handlerFunc) Datagrams(pkts []netio.Packet) { f(pkts) }

// TestReceive: a handler that sends more than a batch, on both
// listeners, is seen in full and in order.
func TestReceive(t *testing.T) {
	outside, inside := netip.MustParseAddrPort("198.51.100.1:5060"), netip.MustParseAddrPort("0.0.0.0:5060")
	phone := netip.MustParseAddrPort("192.0.2.1:5062")
	to := netip.MustParseAddr("203.0.113.1")
	n := memio.New([]netip.AddrPort{outside, inside}, func(l, w int, out *netio.Output) netio.DatagramHandler {
		return handlerFunc(func(pkts []netio.Packet) {
			for i := range pkts {
				for k := range 100 {
					b := fmt.Appendf(out.Slot(1-l), "%d %s", k, pkts[i].Data)
					out.Push(1-l, len(b), pkts[i].Src, pkts[i].Local)
				}
			}
		})
	})
	msg := []byte("hello")
	for l, want := range []netip.Addr{outside.Addr(), outside.Addr()} {
		pkt := netio.Packet{Data: msg, Src: phone}
		if l == 1 {
			pkt.Local = to
		}
		sent := n.Receive(l, pkt)
		if len(sent) != 100 {
			t.Fatalf("%d messages, want 100", len(sent))
		}
		for k, s := range sent {
			if s.Listener != 1-l || s.Dst != phone || s.Local != want || !bytes.Equal(s.Data, fmt.Appendf(nil, "%d hello", k)) {
				t.Fatalf("listener %d, message %d: %+v", l, k, s)
			}
		}
	}
	if string(msg) != "hello" {
		t.Error("the caller's packet was changed")
	}
	if err := n.WriteTo(0, msg, phone, netip.Addr{}); err != nil {
		t.Fatal(err)
	}
	if sent := n.Receive(0); len(sent) != 1 || string(sent[0].Data) != "hello" || sent[0].Local != outside.Addr() {
		t.Errorf("after WriteTo: %+v", sent)
	}
	if n.LocalAddr(1) != inside {
		t.Error("LocalAddr")
	}
}
