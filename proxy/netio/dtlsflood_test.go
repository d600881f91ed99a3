package netio_test

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"sipward/proxy/netio"
)

// dtlsHello is a ClientHello like those that pion/dtls sends, of its own random,
// with a cookie unless that is empty.
func dtlsHello(random uint32, cookie []byte) []byte {
	body := append([]byte{0xfe, 0xfd}, make([]byte, 32)...)
	binary.BigEndian.PutUint32(body[2:], random)
	body = append(body, 0, byte(len(cookie)))
	body = append(body, cookie...)
	body = append(body, 0, 4, 0xc0, 0x2b, 0xc0, 0x2f, 1, 0) // suites, no compression
	extensions := make([]byte, 100)
	binary.BigEndian.PutUint16(extensions[0:], uint16(len(extensions)-4))
	body = binary.BigEndian.AppendUint16(body, uint16(len(extensions)))
	body = append(body, extensions...)
	message := byte(min(len(cookie), 1))
	b := []byte{22, 0xfe, 0xff, 0, 0, 0, 0, 0, 0, 0, message, 0, 0}
	b = append(b, 1, 0, 0, 0, 0, message, 0, 0, 0, 0, 0, 0)
	binary.BigEndian.PutUint16(b[11:], uint16(len(body)+12))
	binary.BigEndian.PutUint16(b[15:], uint16(len(body)))
	binary.BigEndian.PutUint16(b[23:], uint16(len(body)))
	return append(b, body...)
}

// idleDTLS has a listener that nothing reads, and its handler.
func idleDTLS(t testing.TB, h *stream, deliver func([]netio.Datagram)) (*netio.DTLS, netio.DatagramHandler, *netio.Output) {
	t.Helper()
	server, _ := edge(t)
	d, err := netio.ListenDTLS(netio.DTLSConfig{TLS: server, Conns: netio.TCPConfig{HandshakeTimeout: time.Minute}}, []netip.AddrPort{addrPort("127.0.0.1:0")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	out := netio.NewOutput(1, 64, func(_ int, msgs []netio.Datagram) { deliver(msgs) })
	return d, d.Handler(h, out), out
}

// stranger is the i-th of many forged addresses.
func stranger(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, byte(i >> 8), byte(i)}), uint16(1024+i>>16))
}

// TestDTLSForgedHellos sends 100,000 ClientHellos, each from an address of its own,
// half of them with a cookie that is made up: nothing is to be kept of them.
func TestDTLSForgedHellos(t *testing.T) {
	const n = 100_000
	h := newStream()
	replies, longest := 0, 0
	d, handler, out := idleDTLS(t, h, func(msgs []netio.Datagram) {
		replies += len(msgs)
		for i := range msgs {
			longest = max(longest, len(msgs[i].Data))
		}
	})
	local := d.LocalAddr(0).Addr()
	cookie := bytes.Repeat([]byte{7}, 16)
	batch := make([]netio.Packet, 50)
	flood := func(from, to int) {
		for i := from; i < to; i += len(batch) {
			for j := range batch {
				p := netio.Packet{Data: dtlsHello(uint32(i+j), nil), Src: stranger(i + j), Local: local}
				if j%2 == 1 {
					p.Data = dtlsHello(uint32(i+j), cookie)
				}
				batch[j] = p
			}
			handler.Datagrams(batch)
			out.Flush()
		}
	}
	flood(0, 1000)
	goroutines, before := runtime.NumGoroutine(), memory()
	flood(1000, n)
	if grown := int64(memory()) - int64(before); grown > 1<<20 {
		t.Errorf("%d bytes are kept of %d forged ClientHellos", grown, n)
	}
	if now := runtime.NumGoroutine(); now > goroutines {
		t.Errorf("%d goroutines, %d before", now, goroutines)
	}
	if replies != n/2 || longest >= len(dtlsHello(0, nil)) {
		t.Errorf("%d answers, the longest of %d bytes", replies, longest)
	}
	if st := d.Stats(); st.Cookies != n/2 || st.BadCookies != n/2 || st.Open != 0 || st.Accepted != 0 {
		t.Errorf("stats %+v", st)
	}
}

// TestDTLSCookies: a cookie is good for the address and the offer that it was made
// for, for a time.
func TestDTLSCookies(t *testing.T) {
	var cookie []byte
	h := newStream()
	d, handler, out := idleDTLS(t, h, func(msgs []netio.Datagram) {
		b := msgs[0].Data
		cookie = bytes.Clone(b[len(b)-16:])
	})
	local := d.LocalAddr(0).Addr()
	send := func(src string, b []byte) netio.DTLSStats {
		handler.Datagrams([]netio.Packet{{Data: b, Src: addrPort(src), Local: local}})
		out.Flush()
		return d.Stats()
	}
	const at = "127.0.0.1:4000"
	send(at, dtlsHello(1, nil))
	if cookie == nil {
		t.Fatal("no cookie")
	}
	first := cookie
	suites := bytes.Replace(dtlsHello(1, first), []byte{0xc0, 0x2b}, []byte{0xc0, 0x0a}, 1)
	forged := bytes.Clone(first)
	forged[0]++
	for _, c := range []struct {
		name, src string
		hello     []byte
	}{
		{"another port", "127.0.0.1:4001", dtlsHello(1, first)},
		{"another address", "127.0.0.2:4000", dtlsHello(1, first)},
		{"another random", at, dtlsHello(2, first)},
		{"other suites", at, suites},
		{"changed", at, dtlsHello(1, forged)},
		{"too short", at, dtlsHello(1, first[:15])},
		{"too long", at, dtlsHello(1, append(bytes.Clone(first), 0))},
	} {
		before := d.Stats()
		if st := send(c.src, c.hello); st.BadCookies != before.BadCookies+1 || st.Accepted != 0 {
			t.Errorf("%s: stats %+v", c.name, st)
		}
	}
	if st := send(at, dtlsHello(1, first)); st.Accepted != 1 {
		t.Errorf("the right one: stats %+v", st)
	}
}

func TestDTLSAcceptFirst(t *testing.T) {
	h := newStream()
	asked := 0
	h.accept = func(netip.AddrPort) bool { asked++; return false }
	d, handler, out := idleDTLS(t, h, func(msgs []netio.Datagram) { t.Errorf("%d answers", len(msgs)) })
	handler.Datagrams([]netio.Packet{{Data: dtlsHello(1, nil), Src: addrPort("192.0.2.1:4000"), Local: d.LocalAddr(0).Addr()}})
	out.Flush()
	if st := d.Stats(); asked != 1 || st.RefusedGate != 1 || st.Cookies != 0 {
		t.Errorf("asked %d times, stats %+v", asked, st)
	}
}

func TestDTLSHelloAllocations(t *testing.T) {
	h := newStream()
	d, handler, out := idleDTLS(t, h, func([]netio.Datagram) {})
	pkts := []netio.Packet{
		{Data: dtlsHello(1, nil), Src: addrPort("192.0.2.1:4000"), Local: d.LocalAddr(0).Addr()},
		{Data: dtlsHello(1, bytes.Repeat([]byte{7}, 16)), Src: addrPort("192.0.2.1:4000"), Local: d.LocalAddr(0).Addr()},
		{Data: []byte("\x17\xfe\xfd\x00\x01 something"), Src: addrPort("192.0.2.1:4000"), Local: d.LocalAddr(0).Addr()},
	}
	if n := testing.AllocsPerRun(1000, func() {
		handler.Datagrams(pkts)
		out.Flush()
	}); n != 0 {
		t.Errorf("%v allocations for what a stranger sends", n)
	}
}

func BenchmarkDTLSHello(b *testing.B) {
	d, handler, out := idleDTLS(b, newStream(), func([]netio.Datagram) {})
	for _, c := range []struct {
		name   string
		cookie []byte
	}{{"first", nil}, {"forged", bytes.Repeat([]byte{7}, 16)}} {
		b.Run(c.name, func(b *testing.B) {
			pkts := []netio.Packet{{Data: dtlsHello(1, c.cookie), Src: addrPort("192.0.2.1:4000"), Local: d.LocalAddr(0).Addr()}}
			b.ReportAllocs()
			for b.Loop() {
				handler.Datagrams(pkts)
				out.Flush()
			}
		})
	}
}

// FuzzDTLSDatagram: whatever comes, nothing panics, and what an association takes of
// it is made of whole records in their order.
func FuzzDTLSDatagram(f *testing.F) {
	f.Add(dtlsHello(1, nil))
	f.Add(dtlsHello(1, bytes.Repeat([]byte{7}, 16)))
	f.Add([]byte("\x15\xfe\xfd\x00\x00\x00\x00\x00\x00\x00\x01\x00\x02\x02\x28\x14\xfe\xfd\x00\x00\x00\x00\x00\x00\x00\x02\x00\x01\x01"))
	f.Add([]byte("\x19\xfe\xfd\x00\x01\x00\x00\x00\x00\x00\x01ABCDEFGH\x00\x03abc"))
	d, handler, out := idleDTLS(f, newStream(), func([]netio.Datagram) {})
	f.Fuzz(func(t *testing.T, b []byte) {
		handler.Datagrams([]netio.Packet{{Data: b, Src: addrPort("192.0.2.1:4000"), Local: d.LocalAddr(0).Addr()}})
		out.Flush()
		for _, established := range []bool{false, true} {
			taken := netio.Records(b, established)
			if again := netio.Records(taken, established); !bytes.Equal(again, taken) {
				t.Errorf("of %x it takes %x, and of that %x", b, taken, again)
			}
		}
		if first, ok := netio.FirstHello(b); ok {
			if again, ok := netio.FirstHello(first); !ok || !bytes.Equal(again, first) {
				t.Errorf("%x becomes %x, and that %x", b, first, again)
			}
		}
	})
}
