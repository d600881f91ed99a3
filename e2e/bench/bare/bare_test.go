//go:build linux

package bare_test

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sipward/e2e/bench/bare"
	"sipward/e2e/bench/mmsg"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func listen(t *testing.T, addr string) *net.UDPConn {
	t.Helper()
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(addr)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c
}

func receive(t *testing.T, c *net.UDPConn) (string, net.Addr) {
	t.Helper()
	b := make([]byte, 4096)
	n, from, err := c.ReadFrom(b)
	if err != nil {
		t.Fatal(err)
	}
	return string(b[:n]), from
}

// One Via is added on the way to the PBX and stripped on the way back, nothing else changes, and
// what is neither is dropped.
func TestOneVia(t *testing.T) {
	pbx, client := listen(t, "127.0.0.2:0"), listen(t, "127.0.0.3:0")
	free := listen(t, "127.0.0.1:0")
	edge := free.LocalAddr().(*net.UDPAddr).AddrPort()
	free.Close()
	f, err := bare.Listen(edge, pbx.LocalAddr().(*net.UDPAddr).AddrPort(), mmsg.Options{ReceiveTimeout: 1_000_000})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- f.Run() }()
	defer func() {
		if err := <-done; !errors.Is(err, mmsg.ErrTimeout) {
			t.Error(err)
		}
		f.Close()
	}()

	const start, rest = "OPTIONS sip:x SIP/2.0\r\n", "Via: SIP/2.0/UDP 127.0.0.3;branch=z9hG4bK1\r\nTo: <sip:x>\r\n\r\nbody"
	to := net.UDPAddrFromAddrPort(edge)
	for _, m := range []string{"no line end", start + rest} {
		if _, err := client.WriteTo([]byte(m), to); err != nil {
			t.Fatal(err)
		}
	}
	got, from := receive(t, pbx)
	via := strings.TrimSuffix(strings.TrimPrefix(got, start), rest)
	if len(got) != len(start)+len(via)+len(rest) || !strings.HasPrefix(via, "Via: SIP/2.0/UDP "+edge.String()+";branch=z9hG4bK") || strings.Count(via, "\n") != 1 {
		t.Fatalf("the PBX got %q", got)
	}
	const status = "SIP/2.0 200 OK\r\n"
	for _, m := range []string{status + rest, status + via[:len(via)-4] + "zz\r\n" + rest, status + via + rest} {
		if _, err := pbx.WriteTo([]byte(m), from); err != nil {
			t.Fatal(err)
		}
	}
	if got, _ := receive(t, client); got != status+rest {
		t.Errorf("the client got %q", got)
	}
}
