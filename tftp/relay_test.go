package tftp_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"

	"sipward/policy"
	"sipward/tftp/wire"
)

// TestReads: files arrive as they are, with every block size, and many at once.
func TestReads(t *testing.T) {
	dir, addr := serve(t)
	r := newRig(t, addr, defaults())
	for _, size := range []int{0, 1, 511, 512, 513, 1024, 100_000, 5 << 20} {
		for _, block := range []int{0, 512, 1428, 8192, 65464} {
			if size == 5<<20 && block < 8192 && block != 0 {
				continue // the end-to-end tests do these
			}
			name := fmt.Sprintf("f%d-%d", size, block)
			want := file(t, dir, name, size)
			if got, err := get(client(t, r.addr, block), name, "octet"); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s: %d bytes of %d, %v", name, len(got), len(want), err)
			}
		}
	}
	want := file(t, dir, "many", 200_000)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if got, err := get(client(t, r.addr, 1428), "many", "octet"); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%d bytes of %d, %v", len(got), len(want), err)
			}
		})
	}
	wg.Wait()
	wait(t, "all have completed", func() bool { return r.Stats().Completed == 38+20 })
	if st := r.Stats(); st.Failed != 0 || st.Withheld != 0 {
		t.Errorf("%+v", st)
	}
	text := "one\ntwo\r\n"
	if err := os.WriteFile(dir+"/text", []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if got, err := get(client(t, r.addr, 0), "text", "netascii"); err != nil || string(got) != text {
		t.Errorf("netascii: %q, %v", got, err)
	}
}

func TestReadsIPv6(t *testing.T) {
	dir, addr := serve(t)
	for _, at := range []string{"[::1]:0", "[::]:0", "0.0.0.0:0"} {
		r := newRigAt(t, netip.MustParseAddrPort(at), addr, defaults())
		to := netip.AddrPortFrom(netip.IPv6Loopback(), r.addr.Port())
		if r.addr.Addr().Is4() {
			// The answer has to come from the address that was asked.
			to = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.7"), r.addr.Port())
			c := newRaw(t, "127.0.0.1:0")
			file(t, dir, "v4", 10)
			c.send(to, request(wire.OpRRQ, "v4", "octet"))
			if _, from := c.take(); from.Addr() != to.Addr() {
				t.Errorf("the answer comes from %v, %v was asked", from, to)
			}
			continue
		}
		want := file(t, dir, "v6", 10_000)
		if got, err := get(client(t, to, 1428), "v6", "octet"); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, %v", at, len(got), err)
		}
	}
}

// TestNoReflection: who asks in another's name gets one packet to that other for each
// request of his, whatever the server repeats.
func TestNoReflection(t *testing.T) {
	server := newRaw(t, "127.0.0.1:0")
	for name, answer := range map[string][]byte{
		"data": data(1, make([]byte, 512)),
		"oack": request(wire.OpOAck, "blksize", "65464", "windowsize", "64"),
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, server.addr(), defaults())
			victim, child := newRaw(t, "127.0.0.1:0"), newRaw(t, "127.0.0.1:0")
			rrq := request(wire.OpRRQ, "a", "octet", "blksize", "65464", "windowsize", "64")
			victim.send(r.addr, rrq)
			got, relay := server.take()
			if !bytes.Equal(got, rrq) {
				t.Fatalf("the server got %q", got)
			}
			child.send(relay, answer)
			if got, _ := victim.take(); !bytes.Equal(got, answer) {
				t.Fatalf("the client got %.60q", got)
			}
			for i := range 20 { // repetitions, and a whole window
				child.send(relay, answer)
				child.send(relay, data(i+2, make([]byte, 512)))
			}
			wait(t, "they are withheld", func() bool { return r.Stats().Withheld == 40 })
			victim.nothing()
			// A client that repeats its request, because the answer was lost, gets it again.
			victim.send(r.addr, rrq)
			if got, _ := victim.take(); !bytes.Equal(got, answer) {
				t.Fatalf("the client got %.60q", got)
			}
			victim.nothing()
			server.nothing() // it was not asked again
			// The server gives up; that is withheld, too.
			child.send(relay, wire.AppendError(nil, 0, "timeout"))
			wait(t, "the transfer ends", func() bool { return r.Stats().Open == 0 })
			victim.nothing()
		})
	}
}

// TestProof: only the acknowledgement of what was sent opens the way.
func TestProof(t *testing.T) {
	server := newRaw(t, "127.0.0.1:0")
	r := newRig(t, server.addr(), defaults())
	c, child := newRaw(t, "127.0.0.1:0"), newRaw(t, "127.0.0.1:0")
	c.send(r.addr, request(wire.OpRRQ, "a", "octet"))
	_, relay := server.take()
	child.send(relay, data(1, make([]byte, 512)))
	_, at := c.take()
	for _, wrong := range [][]byte{ack(0), ack(2), data(1, nil), ack(1)[:3], nil, request(wire.OpRRQ, "b", "octet"), request(wire.OpOAck, "a", "b")} {
		c.send(at, wrong)
	}
	other := newRaw(t, "127.0.0.1:0")
	other.send(at, ack(1)) // the kernel lets in the client alone
	child.nothing()
	if st := r.Stats(); st.HalfOpen != 1 {
		t.Errorf("%+v", st)
	}
	c.send(at, ack(1))
	if got, _ := child.take(); !bytes.Equal(got, ack(1)) {
		t.Fatalf("the server got %q", got)
	}
	if st := r.Stats(); st.HalfOpen != 0 || st.Open != 1 {
		t.Errorf("%+v", st)
	}
	// From now on what the server repeats goes out.
	child.send(relay, data(2, make([]byte, 100)))
	child.send(relay, data(2, make([]byte, 100)))
	c.take()
	c.take()
	// Nobody else speaks for the server; a second child of it is told to stop.
	stranger := newRaw(t, "127.0.0.1:0")
	stranger.send(relay, data(3, nil))
	if got, _ := stranger.take(); wire.OpOf(got) != wire.OpError {
		t.Errorf("a second child got %q", got)
	}
	c.nothing()
	// What does not fit the transfer does not pass.
	child.send(relay, data(3, make([]byte, 513)))
	child.send(relay, ack(3))
	child.send(relay, []byte{0, 9, 0, 0})
	c.nothing()
	// A client can only repeat so much.
	for range 100 {
		c.send(at, ack(2))
	}
	got := 0
	for {
		if _, _, ok := child.next(100e6); !ok {
			break
		}
		got++
	}
	if got == 0 || got > 8 {
		t.Errorf("%d of 100 acknowledgements have reached the server, want 1 to 8", got)
	}
}

// TestWindow: a window passes as a whole (RFC 7440).
func TestWindow(t *testing.T) {
	server := newRaw(t, "127.0.0.1:0")
	r := newRig(t, server.addr(), defaults())
	c, child := newRaw(t, "127.0.0.1:0"), newRaw(t, "127.0.0.1:0")
	c.send(r.addr, request(wire.OpRRQ, "a", "octet", "windowsize", "8", "blksize", "1428"))
	_, relay := server.take()
	child.send(relay, request(wire.OpOAck, "windowsize", "8", "blksize", "1428"))
	_, at := c.take()
	c.send(at, ack(0))
	child.take()
	for window := range 5 {
		for i := range 8 {
			child.send(relay, data(window*8+i+1, make([]byte, 1428)))
		}
		for i := range 8 {
			if b, _ := c.take(); len(b) != 4+1428 {
				t.Fatalf("block %d has %d bytes", window*8+i+1, len(b))
			}
		}
		c.send(at, ack(window*8+8))
		child.take()
	}
	child.send(relay, data(41, []byte("end")))
	c.take()
	c.send(at, ack(41))
	child.take()
	wait(t, "it is complete", func() bool { return r.Stats().Completed == 1 })
	// A server that grants more than was asked for is not followed.
	c.send(r.addr, request(wire.OpRRQ, "b", "octet", "windowsize", "8"))
	_, relay = server.take()
	child.send(relay, request(wire.OpOAck, "windowsize", "9"))
	child.send(relay, request(wire.OpOAck, "blksize", "65464"))
	c.nothing()
	child.send(relay, request(wire.OpOAck, "windowsize", "8"))
	c.take()
}

// TestWrite: files are written only if that is allowed.
func TestWrite(t *testing.T) {
	server := newRaw(t, "127.0.0.1:0")
	wrq := request(wire.OpWRQ, "log.txt", "octet", "blksize", "1000")
	r := newRig(t, server.addr(), defaults())
	c, child := newRaw(t, "127.0.0.1:0"), newRaw(t, "127.0.0.1:0")
	c.send(r.addr, wrq)
	if b, _ := c.take(); !bytes.Equal(b, wire.AppendError(nil, wire.ErrAccess, "read only")) {
		t.Errorf("the answer is %q", b)
	}
	server.nothing()
	s := defaults()
	s.AllowWrite = true
	r.Reload(s)
	c.send(r.addr, wrq)
	_, relay := server.take()
	child.send(relay, request(wire.OpOAck, "blksize", "1000"))
	_, at := c.take()
	c.send(at, data(2, make([]byte, 1000))) // not the first block
	c.send(at, data(1, make([]byte, 1001))) // too large
	child.nothing()
	for i := range 3 {
		c.send(at, data(i+1, make([]byte, 1000-i/2)))
		if b, _ := child.take(); len(b) != 4+1000-i/2 {
			t.Fatalf("the server got %d bytes", len(b))
		}
		child.send(relay, ack(i+1))
		if b, _ := c.take(); !bytes.Equal(b, ack(i+1)) {
			t.Fatalf("the client got %q", b)
		}
	}
	wait(t, "it is complete", func() bool { return r.Stats().Completed == 1 })
	if n := r.reason(policy.ReasonTFTPWrite); n != 1 {
		t.Errorf("%d requests were refused for writing", n)
	}
}

// TestLedAstray: what leads out of the folder reaches no server.
func TestLedAstray(t *testing.T) {
	server := newRaw(t, "127.0.0.1:0")
	r := newRig(t, server.addr(), defaults())
	c := newRaw(t, "127.0.0.1:0")
	names := []string{"../../etc/passwd", `..\..\boot.ini`, "%2e%2e%2fetc%2fpasswd", "/etc/passwd", `C:\boot.ini`, "a%00b", "x/%252e%252e/y"}
	for _, name := range names {
		for _, op := range []wire.Op{wire.OpRRQ, wire.OpWRQ} {
			c.send(r.addr, request(op, name, "octet"))
			if b, _ := c.take(); wire.OpOf(b) != wire.OpError || len(b) > 40 {
				t.Errorf("%q is answered %q", name, b)
			}
		}
	}
	server.nothing()
	wait(t, "they are counted", func() bool { return r.reason(policy.ReasonTFTPPath) == 2*len(names) })
	s := defaults()
	s.AllowAbsolute = true
	r.Reload(s)
	c.send(r.addr, request(wire.OpRRQ, "/pxelinux.0", "octet"))
	server.take()
	c.send(r.addr, request(wire.OpRRQ, "/../etc/passwd", "octet"))
	c.take()
	server.nothing()
}

// TestFiles: the built-in server keeps to its folder even without the guard.
func TestFiles(t *testing.T) {
	dir, addr := serve(t)
	secret := t.TempDir() + "/secret"
	for _, err := range []error{
		os.WriteFile(secret, []byte("secret"), 0o644), os.Symlink(secret, dir+"/link"), os.Symlink("inside", dir+"/good"),
		os.Mkdir(dir+"/folder", 0o755), os.WriteFile(dir+"/folder/a", []byte("a"), 0o644), os.WriteFile(dir+"/inside", []byte("in"), 0o644),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{
		"link": "", "../" + secret: "", strings.Repeat("../", 20) + secret: "", secret: "", "folder": "", "": "", ".": "", "none": "",
		"inside": "in", "/inside": "in", "good": "in", "folder/a": "a",
	} {
		got, err := get(client(t, addr, 0), name, "octet")
		if (err == nil) != (want != "") || string(got) != want {
			t.Errorf("%q: %q, %v", name, got, err)
		}
		if err != nil && strings.Contains(err.Error(), dir) {
			t.Errorf("%q: the answer says where the folder is: %v", name, err)
		}
	}
	if w, err := client(t, addr, 0).Send("new", "octet"); err == nil {
		if _, err = w.ReadFrom(strings.NewReader("x")); err == nil {
			t.Error("it takes files")
		}
	}
}
