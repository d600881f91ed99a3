package iplist_test

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"sipward/policy/iplist"
)

func TestParsePrefix(t *testing.T) {
	tests := []struct {
		in, want, errHas string
	}{
		{in: "192.0.2.10", want: "192.0.2.10/32"},
		{in: "192.0.2.0/24", want: "192.0.2.0/24"},
		{in: "0.0.0.0/0", want: "0.0.0.0/0"},
		{in: "2001:db8::1", want: "2001:db8::1/128"},
		{in: "2001:DB8::/32", want: "2001:db8::/32"},
		{in: "::ffff:192.0.2.1", want: "192.0.2.1/32"},
		{in: "::ffff:192.0.2.0/120", want: "192.0.2.0/24"},
		{in: "", errHas: "no address"},
		{in: "192.0.2.1/24", errHas: "write 192.0.2.0/24 for the network, or 192.0.2.1"},
		{in: "2001:db8::1/64", errHas: "write 2001:db8::/64 for the network"},
		{in: "::ffff:192.0.2.1/120", errHas: "write 192.0.2.0/24"},
		{in: "::ffff:0:0/90", errHas: "write the IPv4 prefix itself"},
		{in: "fe80::1%eth0", errHas: "leave out %eth0"},
		{in: "192.0.2.0/33", errHas: "between 0 and 32"},
		{in: "192.0.2.0/-1", errHas: "between 0 and 32"},
		{in: "2001:db8::/129", errHas: "between 0 and 128"},
		{in: "192.0.2.0/255.255.255.0", errHas: "write 192.0.2.0/24"},
		{in: "192.0.2.7/255.255.255.0", errHas: "write 192.0.2.0/24"},
		{in: "192.0.2.0/255.0.255.0", errHas: "between 0 and 32"},
		{in: "192.0.2.1-192.0.2.9", errHas: "is a range"},
		{in: "192.0.2.*", errHas: "wildcard"},
		{in: "pbx.example.com", errHas: "names are not looked up"},
		{in: "192.0.2.010", errHas: "not an address"},
		{in: "/24", errHas: "not an address"},
	}
	for _, tt := range tests {
		p, err := iplist.ParsePrefix(tt.in)
		switch {
		case tt.errHas == "" && err != nil:
			t.Errorf("ParsePrefix(%q): %v", tt.in, err)
		case tt.errHas == "" && p.String() != tt.want:
			t.Errorf("ParsePrefix(%q) = %v, want %v", tt.in, p, tt.want)
		case tt.errHas != "" && (err == nil || !strings.Contains(err.Error(), tt.errHas)):
			t.Errorf("ParsePrefix(%q): error %v, want one with %q", tt.in, err, tt.errHas)
		}
	}
}

func TestReadFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "deny.txt")
	text := "\ufeff# scanners\r\n\r\n192.0.2.10   # the office\r\n2001:db8::/32\n   198.51.100.0/24#x\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := iplist.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := []iplist.Entry{
		{Prefix: netip.MustParsePrefix("192.0.2.10/32"), Origin: path + ":3", Comment: "the office"},
		{Prefix: netip.MustParsePrefix("2001:db8::/32"), Origin: path + ":4"},
		{Prefix: netip.MustParsePrefix("198.51.100.0/24"), Origin: path + ":5", Comment: "x"},
	}
	if len(got) != len(want) {
		t.Fatalf("got %d entries, want %d: %v", len(got), len(want), got)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("entry %d = %+v, want %+v", i, got[i], want[i])
		}
	}
	if _, err := iplist.ReadFile(path + ".absent"); !os.IsNotExist(unwrapAll(err)) {
		t.Errorf("absent file: %v", err)
	}
}

func unwrapAll(err error) error {
	for {
		u, ok := err.(interface{ Unwrap() error })
		if !ok || os.IsNotExist(err) {
			return err
		}
		err = u.Unwrap()
	}
}

func TestParseErrors(t *testing.T) {
	_, err := iplist.Parse(strings.NewReader("10.0.0.1\n10.0.0.1/8\n1.2.3.4 5.6.7.8\nx\n"), "deny.txt")
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{
		`deny.txt:2: "10.0.0.1/8" has bits set`,
		`deny.txt:3: "5.6.7.8" follows the prefix`,
		`deny.txt:4: "x" is not an address`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q lacks %q", err, want)
		}
	}
	_, err = iplist.Parse(strings.NewReader(strings.Repeat("x\n", 1000)), "l")
	if n := strings.Count(err.Error(), "\n"); n != 10 || !strings.Contains(err.Error(), "more lines are wrong") {
		t.Errorf("a wholly wrong file gives %d lines of error: %v", n+1, err)
	}
	_, err = iplist.Parse(strings.NewReader("10.0.0.1\n"+strings.Repeat("1", 10000)), "l")
	if err == nil || !strings.Contains(err.Error(), "l:2: the line is longer") {
		t.Errorf("long line: %v", err)
	}
}

func TestNilSetIsEmpty(t *testing.T) {
	var s *iplist.Set
	a := netip.MustParseAddr("192.0.2.1")
	if _, ok := s.Lookup(a); ok || s.Contains(a) || s.Len() != 0 || s.Entries() != nil {
		t.Error("a nil set is not empty")
	}
}

func TestFirstDuplicateWins(t *testing.T) {
	p := netip.MustParsePrefix("192.0.2.0/24")
	s := iplist.New([]iplist.Entry{{Prefix: p, Origin: "a"}, {Prefix: p, Origin: "b"}})
	e, ok := s.Lookup(netip.MustParseAddr("192.0.2.9"))
	if !ok || e.Origin != "a" || s.Len() != 1 || len(s.Entries()) != 2 {
		t.Errorf("got %v %v, len %d, entries %d", e, ok, s.Len(), len(s.Entries()))
	}
}

// addrGen draws from few addresses, so that prefixes and addresses meet.
func addrGen() *rapid.Generator[netip.Addr] {
	return rapid.Custom(func(t *rapid.T) netip.Addr {
		b := rapid.SliceOfN(rapid.SampledFrom([]byte{0, 1, 0x80, 0xc0, 0xff}), 16, 16).Draw(t, "bytes")
		if rapid.Bool().Draw(t, "v4") {
			return netip.AddrFrom4([4]byte(b))
		}
		return netip.AddrFrom16([16]byte(b)).Unmap()
	})
}

func TestSetAgainstNaive(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		entries := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) iplist.Entry {
			a := addrGen().Draw(t, "addr")
			return iplist.Entry{Prefix: netip.PrefixFrom(a, rapid.IntRange(0, a.BitLen()).Draw(t, "bits")).Masked()}
		}), 0, 20).Draw(t, "entries")
		s := iplist.New(entries)
		for range 20 {
			a := addrGen().Draw(t, "probe")
			best := -1
			for _, e := range entries {
				if e.Prefix.Contains(a) {
					best = max(best, e.Prefix.Bits())
				}
			}
			e, ok := s.Lookup(a)
			if s.Contains(a) != (best >= 0) || ok != (best >= 0) || ok && e.Prefix.Bits() != best {
				t.Fatalf("%v: Contains %v, Lookup %v %v, want length %d", a, s.Contains(a), e.Prefix, ok, best)
			}
		}
	})
}

// A large set takes another path; it must give the same answers.
func TestLargeSetAgainstNaive(t *testing.T) {
	var entries []iplist.Entry
	for i := range 3000 {
		a := netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 7})
		entries = append(entries, iplist.Entry{Prefix: netip.PrefixFrom(a, 32)})
	}
	for _, p := range []string{"0.0.0.0/8", "64.0.0.0/3", "192.0.2.0/24", "192.0.32.0/19", "192.1.16.0/20", "192.1.48.0/21", "255.255.255.255/32", "2001:db8::/32", "::/16"} {
		entries = append(entries, iplist.Entry{Prefix: netip.MustParsePrefix(p)})
	}
	s := iplist.New(entries)
	check := func(a netip.Addr) {
		t.Helper()
		want := false
		for _, e := range entries {
			want = want || e.Prefix.Contains(a)
		}
		if _, ok := s.Lookup(a); s.Contains(a) != want || ok != want {
			t.Errorf("%v: Contains %v, Lookup %v, want %v", a, s.Contains(a), ok, want)
		}
	}
	for _, e := range entries[2900:] { // the edges of each
		first := e.Prefix.Addr()
		b := first.AsSlice()
		for i := range b {
			for bit := range 8 {
				if i*8+bit >= e.Prefix.Bits() {
					b[i] |= 0x80 >> bit
				}
			}
		}
		last, _ := netip.AddrFromSlice(b)
		for _, a := range []netip.Addr{first, last, first.Prev(), last.Next()} {
			if a.IsValid() {
				check(a)
			}
		}
	}
	for _, a := range probes(false)[:500] {
		check(a)
	}
	for _, a := range probes(true)[:500] {
		check(a)
	}
}
