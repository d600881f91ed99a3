package netio_test

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"pgregory.net/rapid"

	"sipward/proxy/netio"
)

// naiveChecksum is RFC 1071 as it is written.
func naiveChecksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i < len(b); i += 2 {
		sum += uint32(b[i]) << 8
		if i+1 < len(b) {
			sum += uint32(b[i+1])
		}
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

func TestChecksum(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		head := rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "head")
		body := rapid.SliceOfN(rapid.SampledFrom([]byte{0, 1, 0x7f, 0xfe, 0xff}), 0, 300).Draw(t, "body")
		if got, want := netio.Checksum(head, body), naiveChecksum(append(bytes.Clone(head), body...)); got != want {
			t.Fatalf("%#04x, want %#04x", got, want)
		}
	})
}

// TestRawPackets takes apart what was put together: headers, fragments, checksums.
func TestRawPackets(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v6 := rapid.Bool().Draw(t, "v6")
		addr := func(label string) netip.Addr {
			n := 4
			if v6 {
				n = 16
			}
			b := rapid.SliceOfN(rapid.Byte(), n, n).Draw(t, label)
			b[0] = 0x20 // no mapped address
			a, _ := netip.AddrFromSlice(b)
			return a
		}
		d := netio.Datagram{
			Data:      bytes.Repeat([]byte("0123456789abcde"), 5000)[:rapid.IntRange(0, 65507-40).Draw(t, "size")],
			Dst:       netip.AddrPortFrom(addr("dst"), rapid.Uint16Min(1).Draw(t, "dst port")),
			Local:     addr("src"),
			LocalPort: rapid.Uint16Min(1).Draw(t, "src port"),
			TOS:       rapid.Byte().Draw(t, "tos"),
		}
		mtu := rapid.IntRange(1280, 9000).Draw(t, "mtu")
		packets := netio.RawPackets([]netio.Datagram{d}, mtu)
		var udp []byte
		for i, b := range packets {
			if len(b) > mtu {
				t.Fatalf("packet %d of %d has %d bytes, the MTU is %d", i, len(packets), len(b), mtu)
			}
			udp = append(udp, part(t, b, &d, len(udp), i == len(packets)-1, len(packets) > 1)...)
		}
		if single := 28 + len(d.Data); !v6 && single <= mtu && len(packets) != 1 {
			t.Fatalf("%d bytes in %d packets", single, len(packets))
		}
		if !bytes.Equal(udp[8:], d.Data) {
			t.Fatal("the message has changed")
		}
		ports := [...]uint16{binary.BigEndian.Uint16(udp), binary.BigEndian.Uint16(udp[2:]), binary.BigEndian.Uint16(udp[4:])}
		if want := [...]uint16{d.LocalPort, d.Dst.Port(), uint16(len(udp))}; ports != want {
			t.Fatalf("UDP header %v, want %v", ports, want)
		}
		pseudo := append(d.Local.AsSlice(), d.Dst.Addr().AsSlice()...)
		pseudo = binary.BigEndian.AppendUint32(pseudo, uint32(len(udp)))
		pseudo = append(pseudo, 0, 0, 0, 17)
		if naiveChecksum(append(pseudo, udp...)) != 0 || udp[6] == 0 && udp[7] == 0 {
			t.Fatal("the checksum is wrong")
		}
	})
}

// part checks one packet's IP header and returns what it carries.
func part(t *rapid.T, b []byte, d *netio.Datagram, at int, last, fragment bool) []byte {
	if d.Local.Is4() {
		flags := binary.BigEndian.Uint16(b[6:])
		switch {
		case b[0] != 0x45 || b[1] != d.TOS || b[9] != 17:
			t.Fatalf("header % x", b[:20])
		case int(flags&0x1fff)*8 != at || flags&0x4000 != 0 || (flags&0x2000 != 0) == last:
			t.Fatalf("fragment flags %#x at %d", flags, at)
		case (binary.BigEndian.Uint16(b[4:]) != 0) != fragment:
			t.Fatal("only fragments have an identification of ours")
		case !bytes.Equal(b[12:16], d.Local.AsSlice()) || !bytes.Equal(b[16:20], d.Dst.Addr().AsSlice()):
			t.Fatalf("addresses % x", b[12:20])
		}
		return b[20:]
	}
	head, next := 40, b[6]
	if fragment {
		head, next = 48, b[40]
		offset := binary.BigEndian.Uint16(b[42:])
		if b[6] != 44 || int(offset&^7) != at || (offset&1 == 1) == last {
			t.Fatalf("fragment header % x at %d", b[40:48], at)
		}
	}
	switch {
	case b[0]>>4 != 6 || b[0]<<4|b[1]>>4 != d.TOS || next != 17:
		t.Fatalf("header % x", b[:40])
	case int(binary.BigEndian.Uint16(b[4:])) != len(b)-40:
		t.Fatalf("length %d of %d", binary.BigEndian.Uint16(b[4:]), len(b)-40)
	case !bytes.Equal(b[8:24], d.Local.AsSlice()) || !bytes.Equal(b[24:40], d.Dst.Addr().AsSlice()):
		t.Fatalf("addresses % x", b[8:40])
	}
	return b[head:]
}

func batchOf(n int) []netio.Datagram {
	msgs := make([]netio.Datagram, n)
	for i := range msgs {
		msgs[i] = netio.Datagram{Data: make([]byte, 800), Dst: addrPort("203.0.113.2:5060"), Local: netip.MustParseAddr("192.0.2.1"), LocalPort: 5060}
	}
	return msgs
}

func TestRawAllocs(t *testing.T) {
	msgs, pack := batchOf(64), netio.RawWriter(64)
	if n := testing.AllocsPerRun(100, func() { pack(msgs) }); n != 0 {
		t.Errorf("%v allocations for 64 messages", n)
	}
}

// BenchmarkRawPack is headers and checksum of a message of 800 bytes.
func BenchmarkRawPack(b *testing.B) {
	msgs, pack := batchOf(64), netio.RawWriter(64)
	b.ReportAllocs()
	for n := 0; n < b.N; n += 64 {
		pack(msgs)
	}
}
