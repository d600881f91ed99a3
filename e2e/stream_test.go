//go:build linux

package e2e_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"sipward/e2e/lab"
	"sipward/e2e/phone"
)

// big is an INVITE of 6 KB: a phone with many codecs, video, ICE and a certificate or two.
func big(p *phone.Phone, uri string) *phone.Request {
	req := p.NewInvite(uri)
	for i := range 20 {
		req.Headers = append(req.Headers, phone.Header{Name: fmt.Sprintf("X-Long-%d", i), Value: strings.Repeat("abcdefghij", 12)})
	}
	var sdp bytes.Buffer
	sdp.Write(p.SDP())
	for i := range 50 {
		fmt.Fprintf(&sdp, "a=candidate:%d 1 UDP 2130706431 198.51.100.101 %d typ host generation 0\r\n", i, 50000+i)
	}
	req.Body = sdp.Bytes()
	return req
}

// testBig: a call whose INVITE is larger than a packet.
func (s *site) testBig(t *testing.T, w wire) {
	caller, callee := s.pair(t, w)
	req := big(caller, callee.AoR())
	if n := len(req.Bytes("")); n < 6000 {
		t.Fatalf("the INVITE has only %d bytes", n)
	}
	out := must[*phone.Call](t)(caller.CallWith(within(t, 4*patience), req))
	in := must[*phone.Call](t)(callee.Incoming(within(t, patience)))
	if s.pbx.Name() == "kamailio" && !bytes.Equal(in.Invite.Body(), req.Body) {
		t.Errorf("the offer changed on the way: %d bytes became %d", len(req.Body), len(in.Invite.Body()))
	}
	in.Ring()
	if err := in.Answer(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	want(t, 200)(out.Answered(within(t, patience)))
	want(t, 200)(out.Bye(within(t, patience)))
	ended(t, in)
}

// TestStreams is about what TCP does to messages, and what strangers do with TCP.
func TestStreams(t *testing.T) {
	lab.Need(t, "kamailio")
	t.Parallel()
	s := &site{Lab: labs.New(t)}
	s.pbx = s.StartKamailio(t, lab.PBX1)
	const perSource, total, deadline = 12, 40, 2 * time.Second
	s.start(t, lab.Config{Extra: fmt.Sprintf("tcp: {max_connections: %d, max_per_source: %d, message_timeout: %v}\nflood: {rate: 100000, burst: 100000}\n", total, perSource, deadline)})
	t.Run("every-split", s.testEverySplit)
	t.Run("byte-by-byte", s.testByteByByte)
	t.Run("three-in-one", s.testThreeInOne)
	if direct {
		return
	}
	t.Run("slow-loris", func(t *testing.T) { s.testSlowLoris(t, deadline) })
	t.Run("caps", func(t *testing.T) { s.testCaps(t, perSource, total) })
}

// dial opens a connection to the proxy.
func (s *site) dial(t *testing.T, from netip.Addr) (*net.TCPConn, *bufio.Reader) {
	t.Helper()
	c := must[*net.TCPConn](t)(s.WAN.DialTCP(netip.AddrPortFrom(from, 0), s.proxy(false), patience))
	t.Cleanup(func() { _ = c.Close() })
	return c, bufio.NewReader(c)
}

// knock opens a connection that may be refused, with a reset that comes before or after connect has returned.
func (s *site) knock(t *testing.T, from netip.Addr) *net.TCPConn {
	t.Helper()
	c, err := s.WAN.DialTCP(netip.AddrPortFrom(from, 0), s.proxy(false), patience)
	if errors.Is(err, syscall.ECONNRESET) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// testEverySplit writes a 6 KB INVITE in two parts, cut at every position. Each must reach the PBX whole, and be answered.
func (s *site) testEverySplit(t *testing.T) {
	const workers = 8
	p := s.phone(t, tcp, "1001", 1)
	req := big(p, "sip:1002@"+s.pbx.Domain())
	size := len(invite(req, "w0-00000"))
	var wg sync.WaitGroup
	errs := make(chan error, workers)
	for k := range workers {
		c, r := s.dial(t, lab.Phone(10))
		wg.Go(func() {
			for cut := 1 + k; cut < size; cut += workers {
				if err := split(c, r, req, fmt.Sprintf("w%d-%05d", k, cut), cut); err != nil {
					errs <- fmt.Errorf("cut after %d bytes: %w", cut, err)
					return
				}
			}
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		t.Error(err)
	}
	t.Logf("%d cuts", size-1)
}

// invite makes one of the INVITEs: all of the same length, no two with the same branch and Call-ID.
func invite(req *phone.Request, id string) []byte {
	again := *req
	again.Headers = append([]phone.Header(nil), req.Headers...)
	again.Set("Call-ID", id)
	return again.Bytes("SIP/2.0/TCP 198.51.100.110;rport;branch=z9hG4bK-" + id)
}

// split sends one INVITE in two parts, and acknowledges the challenge that answers it.
func split(c *net.TCPConn, r *bufio.Reader, req *phone.Request, id string, cut int) error {
	b := invite(req, id)
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	for _, part := range [][]byte{b[:cut], b[cut:]} {
		if _, err := c.Write(part); err != nil {
			return err
		}
		if err := drained(c); err != nil {
			return err
		}
	}
	answer, err := phone.ReadMessage(r)
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(answer, []byte("SIP/2.0 407 ")) || !bytes.Contains(answer, []byte("branch=z9hG4bK-"+id)) {
		return fmt.Errorf("answer %q", answer)
	}
	_, to, _ := strings.Cut(string(answer), "To: ")
	to, _, _ = strings.Cut(to, "\r\n")
	ack := &phone.Request{Method: "ACK", URI: req.URI, Headers: []phone.Header{{Name: "Max-Forwards", Value: "70"}, {Name: "From", Value: req.Get("From")},
		{Name: "To", Value: to}, {Name: "Call-ID", Value: id}, {Name: "CSeq", Value: strings.Replace(req.Get("CSeq"), "INVITE", "ACK", 1)}}}
	_, err = c.Write(ack.Bytes("SIP/2.0/TCP 198.51.100.110;rport;branch=z9hG4bK-" + id))
	return err
}

// drained waits until the peer's kernel has what was written, so that the next write is a segment of its own.
func drained(c *net.TCPConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	for end := time.Now().Add(patience); ; {
		left := 0
		if err := raw.Control(func(fd uintptr) { left, err = outq(fd) }); err != nil {
			return err
		}
		if err != nil || left == 0 {
			return err
		}
		if time.Now().After(end) {
			return errors.New("the peer's kernel takes nothing")
		}
	}
}

// options makes a small request that the PBX answers at once.
func (s *site) options(id string) []byte {
	req := &phone.Request{Method: "OPTIONS", URI: "sip:" + s.pbx.Domain(), Headers: []phone.Header{
		{Name: "Max-Forwards", Value: "70"}, {Name: "From", Value: "<sip:a@example.com>;tag=1"}, {Name: "To", Value: "<sip:" + s.pbx.Domain() + ">"},
		{Name: "Call-ID", Value: id}, {Name: "CSeq", Value: "1 OPTIONS"}, {Name: "Content-Type", Value: "text/plain"}}, Body: []byte("body of " + id)}
	return req.Bytes("SIP/2.0/TCP 198.51.100.110;rport;branch=z9hG4bK-" + id)
}

// answered reads one answer, to that request.
func answered(t *testing.T, c *net.TCPConn, r *bufio.Reader, id string) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(patience))
	b := must[[]byte](t)(phone.ReadMessage(r))
	if !bytes.HasPrefix(b, []byte("SIP/2.0 200 ")) || !bytes.Contains(b, []byte("branch=z9hG4bK-"+id)) {
		t.Fatalf("answer to %s: %q", id, b)
	}
}

// testByteByByte writes a request one byte at a time.
func (s *site) testByteByByte(t *testing.T) {
	c, r := s.dial(t, lab.Phone(10))
	for _, b := range s.options("drip") {
		if _, err := c.Write([]byte{b}); err != nil {
			t.Fatal(err)
		}
		if err := drained(c); err != nil {
			t.Fatal(err)
		}
	}
	answered(t, c, r, "drip")
}

// testThreeInOne writes three requests, with keep-alives between them, in one segment.
func (s *site) testThreeInOne(t *testing.T) {
	c, r := s.dial(t, lab.Phone(10))
	var all []byte
	for i := range 3 {
		all = append(append(all, s.options(fmt.Sprint("triple-", i))...), "\r\n\r\n"...)
	}
	if _, err := c.Write(all); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for range 3 {
		_ = c.SetReadDeadline(time.Now().Add(patience))
		b := must[[]byte](t)(phone.ReadMessage(r))
		_, after, _ := bytes.Cut(b, []byte("Call-ID: "))
		id, _, _ := bytes.Cut(after, []byte("\r\n"))
		seen[string(id)] = true
	}
	if len(seen) != 3 {
		t.Fatalf("answers to %v", seen)
	}
}

// testSlowLoris: a message must be whole within its time, however busily its bytes trickle; a connection that owes nothing
// may be silent for longer.
func (s *site) testSlowLoris(t *testing.T, deadline time.Duration) {
	before := must[int64](t)(s.sipward.Count("tcp", "slow"))
	idle, idleReader := s.dial(t, lab.Phone(11))
	slow, _ := s.dial(t, lab.Phone(12))
	message := s.options("slow")
	begun := time.Now()
	closed := make(chan error, 1)
	go func() {
		_, err := slow.Read(make([]byte, 1))
		closed <- err
	}()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case err := <-closed:
			took := time.Since(begun)
			if !hungUp(err) || took < deadline-200*time.Millisecond || took > deadline+patience {
				t.Errorf("closed after %v (%v), the deadline is %v", took, err, deadline)
			}
			if n := must[int64](t)(s.sipward.Count("tcp", "slow")); n != before+1 {
				t.Errorf("%d connections counted as too slow, want %d", n, before+1)
			}
			if _, err := idle.Write(s.options("idle")); err != nil {
				t.Fatal(err)
			}
			answered(t, idle, idleReader, "idle")
			return
		case <-tick.C:
			if i < len(message)-1 {
				_, _ = slow.Write(message[i : i+1])
			}
		}
		if time.Since(begun) > patience {
			t.Fatalf("open for %v with half a message", time.Since(begun))
		}
	}
}

// hungUp says whether a read ended because the peer closed.
func hungUp(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) }

// testCaps: so many connections from one source, and so many in all; a phone that is connected does not notice.
func (s *site) testCaps(t *testing.T, perSource, total int) {
	good := s.registered(t, tcp, "1001", 1)
	mine := make([]*net.TCPConn, perSource+8)
	for i := range mine {
		mine[i] = s.knock(t, lab.Phone(13))
	}
	lab.Poll(t, patience, fmt.Sprintf("%d connections of one source stay open", perSource), func() error {
		if n := len(open(mine)); n != perSource {
			return fmt.Errorf("%d are", n)
		}
		return nil
	})
	// One more may come when one has gone.
	_ = open(mine)[0].Close()
	lab.Poll(t, patience, "a place is free again", func() error {
		c := s.knock(t, lab.Phone(13))
		if c == nil {
			return errors.New("reset")
		}
		if _, err := c.Write(s.options("again")); err != nil {
			return err
		}
		_ = c.SetReadDeadline(time.Now().Add(time.Second))
		_, err := phone.ReadMessage(bufio.NewReader(c))
		return err
	})
	all := mine
	for i := range total {
		all = append(all, s.knock(t, netip.AddrFrom4([4]byte{192, 0, 2, byte(1 + i)})))
	}
	lab.Poll(t, patience, "the cap in all holds", func() error {
		if n := len(open(all)); n >= total { // the good phone has one, too
			return fmt.Errorf("%d connections of strangers are open", n)
		}
		return nil
	})
	if n := len(open(all)); n < total/2 {
		t.Errorf("only %d connections of strangers are open, the cap is %d", n, total)
	}
	want(t, 200)(good.Register(within(t, patience), 300))
	s.registered(t, tcp, "1002", 2) // a phone that is new gets the place of a stranger
	if n := must[int64](t)(s.sipward.Count("tcp", "refused")); n == 0 {
		t.Error("no refused connection was counted")
	}
}

// open gives those connections that the peer has not closed.
func open(conns []*net.TCPConn) []*net.TCPConn {
	var left []*net.TCPConn
	for _, c := range conns {
		if c == nil {
			continue
		}
		_ = c.SetReadDeadline(time.Now().Add(time.Millisecond))
		if _, err := c.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
			left = append(left, c)
		}
	}
	return left
}
