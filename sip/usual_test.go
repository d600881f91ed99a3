package sip

import (
	"strings"
	"testing"
)

// TestUsualHeader: what it finds is what the general way finds.
func TestUsualHeader(t *testing.T) {
	usual := 0
	for id := HeaderVia; id < headerCount; id++ {
		for _, after := range []string{": value and more\r\n", ":value and more\r\n", " : value and more\r\n", "x: value and more\r\n", ":\r\n", "\r\n: value and more"} {
			for _, name := range []string{id.String(), strings.ToLower(id.String()), strings.ToUpper(id.String())} {
				line := []byte(name + after)
				got, n := usualHeader(line)
				if got == HeaderOther {
					if n != 0 {
						t.Errorf("%q: a name of %d bytes, but no ID", line, n)
					}
					continue
				}
				usual++
				if string(line[:n]) != name || line[n] != ':' || got != LookupHeader(line[:n]) {
					t.Errorf("%q is taken for %v with a name of %d bytes", line, got, n)
				}
			}
		}
	}
	if usual < 20 {
		t.Errorf("only %d lines are usual", usual)
	}
	for n := range len("Content-Length: 0\r\n") {
		if id, _ := usualHeader([]byte("Content-Length: 0\r\n")[:n]); id != HeaderOther && n < len("Content-Length:") {
			t.Errorf("%d bytes are taken for %v", n, id)
		}
	}
}

// TestClassSearch: until and during stop at the same byte as a plain loop, wherever it is.
func TestClassSearch(t *testing.T) {
	for n := range 14 {
		for stop := range n + 1 {
			for from := range stop + 1 {
				b := []byte(strings.Repeat("a", n))
				if stop < n {
					b[stop] = ';'
				}
				if got := until(b, from, n, cDelim); got != stop {
					t.Errorf("until(%q, %d) = %d", b, from, got)
				}
				if got := during(b, from, n, cToken); got != stop {
					t.Errorf("during(%q, %d) = %d", b, from, got)
				}
			}
		}
	}
	for c := range 256 {
		b := []byte{byte(c)}
		ctl := c <= ' ' || c == 0x7f
		if (until(b, 0, 1, cBlank) == 0) != ctl {
			t.Errorf("byte %#x: blank is %v", c, !ctl)
		}
	}
}

// TestLookupAuthParam: names are found in any case.
func TestLookupAuthParam(t *testing.T) {
	for id := authUsername; id < authParamCount; id++ {
		name := authNames[id]
		for _, written := range []string{name, strings.ToUpper(name), strings.ToUpper(name[:1]) + name[1:]} {
			if got := lookupAuthParam([]byte(written)); got != id {
				t.Errorf("%q is taken for %q", written, authNames[got])
			}
			if got := lookupAuthParam([]byte(written + "x")); got != authOther {
				t.Errorf("%q is taken for %q", written+"x", authNames[got])
			}
		}
	}
}
