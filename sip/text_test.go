package sip_test

import (
	"bytes"
	"testing"

	"sipward/sip"
)

// TestAppendLower: every byte in every place is as if it stood alone.
func TestAppendLower(t *testing.T) {
	lower := func(c byte) byte {
		if 'A' <= c && c <= 'Z' {
			return c + 'a' - 'A'
		}
		return c
	}
	for n := range 20 {
		for c := range 1 << 8 {
			for _, around := range []byte("\x00aAzZ[@\x7f\xff") {
				in := bytes.Repeat([]byte{around}, n)
				want := append([]byte("KEPT"), bytes.Repeat([]byte{lower(around)}, n)...)
				if n > 0 {
					in[c%n] = byte(c)
					want[4+c%n] = lower(byte(c))
				}
				if got := sip.AppendLower([]byte("KEPT"), in); !bytes.Equal(got, want) {
					t.Fatalf("%q: got %q, want %q", in, got, want)
				}
			}
		}
	}
}
