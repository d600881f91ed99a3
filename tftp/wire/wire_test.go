package wire_test

import (
	"bytes"
	"net/url"
	"path"
	"strings"
	"testing"

	"sipward/tftp/wire"
)

// request joins texts, each with its NUL.
func request(op byte, texts ...string) []byte {
	b := []byte{0, op}
	for _, s := range texts {
		b = append(append(b, s...), 0)
	}
	return b
}

func TestRequest(t *testing.T) {
	long := strings.Repeat("x", 600)
	many := []string{"f", "octet"}
	for i := range 17 {
		many = append(many, string(rune('a'+i)), "1")
	}
	for name, c := range map[string]struct {
		packet []byte
		fault  wire.Fault
		want   wire.Options
	}{
		"plain":               {packet: request(1, "a.cfg", "octet")},
		"netascii, write":     {packet: request(2, "a.cfg", "NetASCII")},
		"all options":         {packet: request(1, "a", "octet", "blksize", "1428", "tsize", "0", "timeout", "3", "windowsize", "16"), want: wire.Options{BlockSize: 1428, Timeout: 3, WindowSize: 16, Count: 4}},
		"any case":            {packet: request(1, "a", "OCTET", "BlkSize", "8"), want: wire.Options{BlockSize: 8, Count: 1}},
		"unknown option":      {packet: request(1, "a", "octet", "multicast", ""), want: wire.Options{Count: 1}},
		"values out of range": {packet: request(1, "a", "octet", "blksize", "7", "windowsize", "0", "timeout", "256"), want: wire.Options{Count: 3}},
		"too large a block":   {packet: request(1, "a", "octet", "blksize", "65465"), want: wire.Options{Count: 1}},
		"no number":           {packet: request(1, "a", "octet", "blksize", "+512"), want: wire.Options{Count: 1}},
		"overflow":            {packet: request(1, "a", "octet", "blksize", "18446744073709552128"), want: wire.Options{Count: 1}},
		"filled up":           {packet: append(request(1, "a", "octet", "tsize", "0"), 0, 0, 0), want: wire.Options{Count: 1}},
		"data":                {packet: []byte{0, 3, 0, 1}, fault: wire.NotRequest},
		"empty":               {packet: nil, fault: wire.NotRequest},
		"one byte":            {packet: []byte{0}, fault: wire.NotRequest},
		"no name":             {packet: request(1, "", "octet"), fault: wire.NoName},
		"no mode":             {packet: request(1, "a"), fault: wire.Unterminated},
		"nothing":             {packet: []byte{0, 1}, fault: wire.Unterminated},
		"open mode":           {packet: append(request(1, "a"), "octet"...), fault: wire.Unterminated},
		"mail":                {packet: request(1, "a", "mail"), fault: wire.BadMode},
		"option, no value":    {packet: request(1, "a", "octet", "blksize"), fault: wire.BadOption},
		"open option":         {packet: append(request(1, "a", "octet"), "blk"...), fault: wire.Unterminated},
		"open value":          {packet: append(request(1, "a", "octet", "blksize"), "512"...), fault: wire.BadOption},
		"odd option":          {packet: request(1, "a", "octet", "blk\x01", "1"), fault: wire.BadOption},
		"behind the zeros":    {packet: append(request(1, "a", "octet", ""), "x\x00y\x00"...), fault: wire.BadOption},
		"twice":               {packet: request(1, "a", "octet", "blksize", "512", "BLKSIZE", "1024"), fault: wire.RepeatedOption},
		"too many":            {packet: request(1, many...), fault: wire.TooManyOptions},
		"too long":            {packet: request(1, long, "octet"), fault: wire.TooLong},
	} {
		t.Run(name, func(t *testing.T) {
			var r wire.Request
			if f := r.Parse(c.packet); f != c.fault {
				t.Fatalf("fault %v, want %v", f, c.fault)
			}
			if c.fault == wire.OK && r.Options != c.want {
				t.Errorf("options %+v, want %+v", r.Options, c.want)
			}
		})
	}
}

func TestOAck(t *testing.T) {
	var o wire.Options
	if f := o.ParseOAck(request(6, "blksize", "1024", "tsize", "5000000")); f != wire.OK || o.BlockSize != 1024 || o.Count != 2 {
		t.Errorf("%v, %+v", f, o)
	}
	if f := o.ParseOAck(request(1, "blksize", "1024")); f != wire.NotRequest {
		t.Errorf("an RRQ as OACK: %v", f)
	}
}

func TestError(t *testing.T) {
	b := wire.AppendError(nil, wire.ErrAccess, "no")
	if n, ok := wire.Number(b); wire.OpOf(b) != wire.OpError || !ok || n != 2 || string(b[4:]) != "no\x00" {
		t.Errorf("%q", b)
	}
	if _, ok := wire.Number(b[:3]); ok {
		t.Error("three bytes have a number")
	}
}

func TestCheckName(t *testing.T) {
	for name, want := range map[string]wire.NameFault{
		"a.cfg": wire.NameOK, "0004f2aabbcc.cfg": wire.NameOK, "fw/v1.2..bin": wire.NameOK, `fw\a.bin`: wire.NameOK,
		"a..b": wire.NameOK, "..a": wire.NameOK, ".hidden": wire.NameOK, "./a": wire.NameOK, "100%": wire.NameOK, "50%25": wire.NameOK, "%zz": wire.NameOK,
		"Anlage-für-Büro.cfg": wire.NameOK,
		"..":                  wire.NameTraversal, "../etc/passwd": wire.NameTraversal, "a/../../b": wire.NameTraversal, "a/..": wire.NameTraversal,
		`..\boot.ini`: wire.NameTraversal, `a\..\..\b`: wire.NameTraversal, `a\../b`: wire.NameTraversal,
		"%2e%2e/a": wire.NameTraversal, "..%2fa": wire.NameTraversal, "..%5Ca": wire.NameTraversal, "%252e%252e%252fa": wire.NameTraversal,
		"%25252e./a": wire.NameTraversal, ".../a": wire.NameTraversal, ".. /a": wire.NameTraversal, "a/. ./b": wire.NameTraversal,
		"/etc/passwd": wire.NameAbsolute, `\windows\win.ini`: wire.NameAbsolute, `\\host\share`: wire.NameAbsolute, "C:/a": wire.NameAbsolute,
		"%2fetc": wire.NameAbsolute, "c%3a/a": wire.NameAbsolute, "/../a": wire.NameTraversal,
		"a%00.cfg": wire.NameControl, "a\nb": wire.NameControl, "a\x7f": wire.NameControl, "\xc0\xae\xc0\xae/a": wire.NameControl,
		"%c0%ae%c0%ae%c0%afa": wire.NameControl, "%2500": wire.NameControl,
	} {
		if f := wire.CheckName([]byte(name)); f != want {
			t.Errorf("%q: %v, want %v", name, f, want)
		}
	}
}

// FuzzRequest: a request that is accepted reads the same when it is written again, and a
// name that is accepted stays in its folder however it is unescaped.
func FuzzRequest(f *testing.F) {
	f.Add(request(1, "a.cfg", "octet", "blksize", "1428"))
	f.Add(request(2, "%2e%2e/b", "netascii"))
	f.Add(request(6, "windowsize", "4"))
	f.Add(append(request(1, "a", "octet"), 0, 0))
	f.Fuzz(func(t *testing.T, b []byte) {
		before := bytes.Clone(b)
		var o wire.Options
		o.ParseOAck(b)
		var r wire.Request
		fault := r.Parse(b)
		if !bytes.Equal(b, before) {
			t.Fatal("the packet was changed")
		}
		if fault != wire.OK {
			return
		}
		again := append(append(append([]byte{0, 1}, r.Name...), 0), r.Mode...)
		var s wire.Request
		if f := s.Parse(append(again, 0)); f != wire.OK || !bytes.Equal(s.Name, r.Name) || s.Options.Count != 0 {
			t.Fatalf("%q reads %v", again, f)
		}
		if wire.CheckName(r.Name) != wire.NameOK {
			return
		}
		for name := string(r.Name); ; {
			p := strings.ReplaceAll(name, `\`, "/")
			if c := path.Clean(p); path.IsAbs(p) || c == ".." || strings.HasPrefix(c, "../") || strings.Contains(c, "\x00") {
				t.Fatalf("%q becomes %q", r.Name, c)
			}
			next, err := url.PathUnescape(name)
			if err != nil || next == name {
				return
			}
			name = next
		}
	})
}

func TestNoAllocs(t *testing.T) {
	b := request(1, "0004f2aabbcc.cfg", "octet", "blksize", "1428", "tsize", "0")
	var r wire.Request
	if n := testing.AllocsPerRun(100, func() {
		if r.Parse(b) != wire.OK || wire.CheckName(r.Name) != wire.NameOK {
			t.Fatal("refused")
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkRequest(b *testing.B) {
	p := request(1, "0004f2aabbcc.cfg", "octet", "blksize", "1428", "tsize", "0")
	var r wire.Request
	b.ReportAllocs()
	for b.Loop() {
		if r.Parse(p) != wire.OK || wire.CheckName(r.Name) != wire.NameOK {
			b.Fatal("refused")
		}
	}
}
