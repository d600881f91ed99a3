//go:build linux

package respond_test

import (
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sipward/e2e/bench/mmsg"
	"sipward/e2e/bench/respond"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestAnswers(t *testing.T) {
	r, err := respond.Listen(netip.MustParseAddrPort("127.0.0.1:0"), mmsg.Options{ReceiveTimeout: 700_000})
	if err != nil {
		t.Fatal(err)
	}
	addr, err := r.LocalAddr()
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- r.Run() }()
	defer func() {
		if err := <-done; err != nil {
			t.Error(err)
		}
		r.Close()
	}()
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(addr))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	const vias = "Via: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bK2\r\nVia: SIP/2.0/UDP 127.0.0.9;branch=z9hG4bK1\r\n"
	for _, tc := range []struct {
		method, to, extra string
		want              []string // status lines; then what each must hold
		holds             string
	}{
		{"REGISTER", "To: <sip:a>", "", []string{"401 Unauthorized"}, "WWW-Authenticate: Digest "},
		{"REGISTER", "To: <sip:a>", "Authorization: Digest x\r\nContact: <sip:a@b>\r\n", []string{"200 OK"}, "Contact: <sip:a@b>;expires=300\r\n"},
		{"INVITE", "To: <sip:a>", "Record-Route: <sip:r;lr>\r\n", []string{"180 Ringing", "200 OK"}, "Record-Route: <sip:r;lr>\r\n"},
		{"ACK", "To: <sip:a>;tag=pbx", "", nil, ""},
		{"BYE", "To: <sip:a>;tag=pbx", "", []string{"200 OK"}, "To: <sip:a>;tag=pbx\r\n"},
		{"OPTIONS", "To: <sip:a>", "", []string{"200 OK"}, "To: <sip:a>;tag=pbx\r\n"},
	} {
		req := tc.method + " sip:a SIP/2.0\r\n" + vias + "From: <sip:b>;tag=1\r\n" + tc.to + "\r\nCall-ID: 1@login.invalid\r\nCSeq: 7 " + tc.method + "\r\n" +
			tc.extra + "Content-Length: 0\r\n\r\n"
		if _, err := c.Write([]byte(req)); err != nil {
			t.Fatal(err)
		}
		for _, want := range tc.want {
			b := make([]byte, 4096)
			if err := c.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
				t.Fatal(err)
			}
			n, err := c.Read(b)
			if err != nil {
				t.Fatalf("%s: %v", tc.method, err)
			}
			got := string(b[:n])
			if !strings.HasPrefix(got, "SIP/2.0 "+want+"\r\n"+vias) || !strings.Contains(got, tc.holds) || !strings.Contains(got, "CSeq: 7 "+tc.method) {
				t.Errorf("%s was answered\n%s", tc.method, got)
			}
		}
	}
}
