//go:build linux

package e2e_test

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sipward/e2e/lab"
	"sipward/e2e/phone"
	"sipward/proxy/certs/certstest"
)

// TestTransportAbuse: whatever strangers do with TLS and WebSocket, phones register and call without a loss, and sipward
// needs no more memory than it may. It does not run beside the other tests.
func TestTransportAbuse(t *testing.T) {
	lab.Need(t, "kamailio")
	s := &site{Lab: labs.New(t)}
	s.pbx = s.StartKamailio(t, lab.PBX1)
	s.start(t, s.secured(t, certstest.NewAuthority(t, "ours"), lab.Config{Extra: "log: {level: info}\n"}))
	var phones []*phone.Phone
	for i, w := range []wire{udp, tcp, tlsWire, wsWire, wssWire} {
		phones = append(phones, s.registered(t, w, fmt.Sprint(1001+i), 1+i))
	}
	connected := must[int64](t)(s.sipward.Count("tcp", "open"))
	idle, _, err := s.sipward.Memory()
	if err != nil {
		t.Fatal(err)
	}
	// The strangers come one kind after the other, each from many addresses.
	opened, slowest := 0, time.Duration(0)
	for n, kind := range []struct {
		name  string
		over  phone.Transport
		count int
		abuse func(c net.Conn)
	}{
		{"half-open", phone.TLS, 3000, func(net.Conn) {}},
		{"half a ClientHello", phone.TLS, 1000, func(c net.Conn) { _, _ = c.Write(clientHello(c)[:100]) }},
		{"a slow ClientHello", phone.TLS, 100, slowHello},
		{"handshakes given up", phone.TLS, 1000, func(c net.Conn) { _, _ = c.Write(clientHello(c)); _ = c.Close() }},
		{"garbage", phone.TLS, 1000, func(c net.Conn) { _, _ = c.Write([]byte(strings.Repeat("\x80\x00garbage", 50))) }},
		{"plain SIP", phone.TLS, 1000, func(c net.Conn) { _, _ = c.Write(stranger("plain", "SIP/2.0/TLS 192.0.2.1:5061")) }},
		{"silent before the upgrade", phone.WS, 1000, func(net.Conn) {}},
		{"endless headers", phone.WS, 100, endlessHeaders},
		{"an oversize frame", phone.WS, 500, func(c net.Conn) { upgrade(c); oversize(c) }},
		{"a flood of pings", phone.WS, 20, func(c net.Conn) { upgrade(c); pings(c) }},
	} {
		t.Run(kind.name, func(t *testing.T) {
			to := netip.AddrPortFrom(lab.EdgeWAN, kind.over.Port())
			stop := s.abusers(t, kind.count, byte(20*n), to, kind.abuse)
			for i := range 2 * len(phones) {
				begun := time.Now()
				if err := attempt(t, phones, i, 2*patience); err != nil {
					t.Errorf("attempt %d: %v", i, err)
				}
				slowest = max(slowest, time.Since(begun))
			}
			opened += stop()
			lab.Poll(t, 2*patience, "only the phones' connections are open", func() error {
				if n, err := s.sipward.Count("tcp", "open"); err != nil || n > connected+int64(len(phones)) { // the PBX may have opened some
					return fmt.Errorf("%d are, %d were before (%v)\n%s", n, connected, err, must[string](t)(s.Edge.Output("ss", "-Htn")))
				}
				return nil
			})
		})
	}
	now, peak, err := s.sipward.Memory()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d connections of strangers; the phones' slowest attempt took %v; memory %d MiB before, %d after, %d at most",
		opened, slowest.Round(time.Millisecond), idle>>20, now>>20, peak>>20)
	const bound = 256 << 20
	if peak > bound && os.Getenv("E2E_RACE") == "" { // the race detector multiplies memory
		t.Errorf("sipward needed %d MiB, its bound is %d", peak>>20, int64(bound)>>20)
	}
	for _, p := range phones {
		select {
		case <-p.Lost():
			t.Errorf("the connection of %s ended", p.AoR())
		default:
		}
		s.notBanned(t, p.Local().Addr())
	}
}

// abusers keep n connections busy, from 20 addresses, until the function is called that it gives; that says how many
// there were. Each is closed before.
func (s *site) abusers(t *testing.T, n int, first byte, to netip.AddrPort, abuse func(net.Conn)) func() int {
	ctx, cancel := context.WithCancel(t.Context())
	var opened atomic.Int64
	var wait sync.WaitGroup
	const workers = 20
	for k := range workers {
		from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, first + byte(k)}), 0)
		wait.Go(func() {
			for range n / workers {
				c, err := s.WAN.DialTCP(from, to, time.Second)
				if err != nil || ctx.Err() != nil {
					continue // refused, as it may be
				}
				opened.Add(1)
				defer context.AfterFunc(ctx, func() { _ = c.Close() })()
				wait.Go(func() {
					defer c.Close()
					_ = c.SetDeadline(time.Now().Add(2 * patience))
					abuse(c)
					_, _ = io.Copy(io.Discard, c) // until sipward has had enough of it
				})
			}
		})
	}
	return func() int {
		cancel()
		wait.Wait()
		return int(opened.Load())
	}
}

// clientHello is what a TLS client begins with.
func clientHello(c net.Conn) []byte {
	r, w := net.Pipe()
	defer r.Close()
	go func() { _ = tls.Client(w, &tls.Config{ServerName: "sip.example.com"}).Handshake(); _ = w.Close() }()
	b := make([]byte, 4096)
	n, _ := r.Read(b)
	if n < 200 {
		_ = c.Close()
		return make([]byte, 200)
	}
	return b[:n]
}

// slowHello sends a byte every 100 ms.
func slowHello(c net.Conn) {
	for _, b := range clientHello(c) {
		if _, err := c.Write([]byte{b}); err != nil {
			return
		}
		time.Sleep(100 * time.Millisecond) // this paces
	}
}

func endlessHeaders(c net.Conn) {
	_, _ = c.Write([]byte("GET / HTTP/1.1\r\nHost: sip.example.com\r\n"))
	for range 100_000 {
		if _, err := c.Write([]byte("X-More: and more\r\n")); err != nil {
			return
		}
	}
}

// upgrade asks for a WebSocket and reads the answer.
func upgrade(c net.Conn) {
	_, _ = c.Write([]byte("GET / HTTP/1.1\r\nHost: sip.example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: sip\r\n\r\n"))
	_, _ = c.Read(make([]byte, 4096))
}

// oversize begins a text frame of a gigabyte (RFC 6455 §5.2), masked with zeros, and goes on with it.
func oversize(c net.Conn) {
	head := binary.BigEndian.AppendUint64([]byte{0x81, 0xff}, 1<<30)
	_, _ = c.Write(append(head, 0, 0, 0, 0))
	for piece := make([]byte, 16<<10); ; {
		if _, err := c.Write(piece); err != nil {
			return
		}
	}
}

// pings sends a ping after the other as fast as it can, and reads no pong.
func pings(c net.Conn) {
	ping := []byte(strings.Repeat("\x89\x84\x00\x00\x00\x00ping", 100))
	for range 20_000 {
		if _, err := c.Write(ping); err != nil {
			return
		}
	}
}
