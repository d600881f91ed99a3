package tftp_test

import (
	"fmt"
	"testing"
	"time"

	"sipward/policy"
	"sipward/tftp/wire"
)

// TestForgedRequestsLockNobodyOut: somebody forges as many requests of a phone as it may have
// transfers. Its own request takes the place of one that nobody has acknowledged.
func TestForgedRequestsLockNobodyOut(t *testing.T) {
	for _, known := range []bool{false, true} {
		s := defaults()
		s.MaxTransfers, s.MaxPerSource = 8, 4
		var allow []string
		if known {
			allow = []string{"127.0.0.0/8"}
		}
		server, child := newRaw(t, "127.0.0.1:0"), newRaw(t, "127.0.0.1:0")
		r := newRig(t, server.addr(), s, allow...)
		for i := range 8 { // of two sources, so there are as many as there may be in all
			forged := newRaw(t, fmt.Sprintf("127.0.1.%d:0", 1+i%2))
			forged.send(r.addr, request(wire.OpRRQ, "a", "octet"))
			_, relay := server.take()
			child.send(relay, data(1, make([]byte, 512)))
			forged.take()
		}
		for _, from := range []string{"127.0.1.1", "127.0.1.3"} {
			c := newRaw(t, from+":0")
			c.send(r.addr, request(wire.OpRRQ, "b", "octet"))
			_, relay := server.take()
			child.send(relay, data(1, make([]byte, 512)))
			_, at := c.take()
			c.send(at, ack(1))
			child.take()
		}
		if st := r.Stats(); st.Open != 8 || st.Evicted != 2 {
			t.Errorf("known %v: %+v", known, st)
		}
		if n := r.reason(policy.ReasonTFTPBusy); n != 0 {
			t.Errorf("known %v: %d refused", known, n)
		}
	}
}

// TestUnprovenWaitsNoLonger: the time that a client asks for is that of one that exists.
func TestUnprovenWaitsNoLonger(t *testing.T) {
	s := defaults()
	s.IdleTimeout = 300 * time.Millisecond
	server, child := newRaw(t, "127.0.0.1:0"), newRaw(t, "127.0.0.1:0")
	r := newRig(t, server.addr(), s)
	forged := newRaw(t, "127.0.1.1:0")
	forged.send(r.addr, request(wire.OpRRQ, "a", "octet", "timeout", "255"))
	_, relay := server.take()
	child.send(relay, request(wire.OpOAck, "timeout", "255"))
	forged.take()
	wait(t, "the end of a transfer that nobody has acknowledged", func() bool { return r.Stats().Open == 0 })
}
