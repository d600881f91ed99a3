package flow_test

import (
	"bytes"
	"encoding/base64"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"sipward/proxy/flow"
)

var library = base64.RawURLEncoding.Strict()

// sameAsLibrary fails unless bytes become the text that encoding/base64 makes of them, and text
// the bytes.
func sameAsLibrary(t interface{ Fatalf(string, ...any) }, raw, text []byte) {
	if got, want := flow.AppendEncode([]byte("kept"), raw), "kept"+library.EncodeToString(raw); string(got) != want {
		t.Fatalf("AppendEncode(%x) = %q, want %q", raw, got, want)
	}
	want, err := library.DecodeString(string(text))
	// The library skips line breaks; a text has one spelling only.
	good := err == nil && !bytes.ContainsAny(text, "\r\n")
	got, ok := flow.AppendDecode([]byte("kept"), text)
	if ok != good || ok && string(got) != "kept"+string(want) {
		t.Fatalf("AppendDecode(%q) = %x %v, want %x %v", text, got, ok, want, good)
	}
}

func TestTextLikeLibrary(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		raw := rapid.SliceOfN(rapid.Byte(), 0, 64).Draw(t, "raw")
		text := []byte(library.EncodeToString(raw))
		sameAsLibrary(t, raw, text)
		if len(text) > 0 {
			text[rapid.IntRange(0, len(text)-1).Draw(t, "at")] = rapid.Byte().Draw(t, "character")
			sameAsLibrary(t, raw, text)
			sameAsLibrary(t, raw, text[:rapid.IntRange(0, len(text)-1).Draw(t, "cut")])
		}
	})
}

// TestTextEnds: every character in the last places, where bits are left over.
func TestTextEnds(t *testing.T) {
	for n := range 9 {
		for last := range 1 << 16 {
			text := bytes.Repeat([]byte("x"), n)
			sameAsLibrary(t, nil, append(text, byte(last>>8), byte(last)))
		}
	}
}

func FuzzText(f *testing.F) {
	f.Add([]byte("0123456789a"), []byte("MDEyMzQ1Njc4OWE"))
	f.Add([]byte{0xff}, []byte("_-\n"))
	f.Fuzz(func(t *testing.T, raw, text []byte) { sameAsLibrary(t, raw, text) })
}

func BenchmarkText(b *testing.B) {
	raw := []byte("a token with its payload, its sum")
	text, back := make([]byte, 0, 64), make([]byte, 0, 64)
	b.ReportAllocs()
	for b.Loop() {
		text = flow.AppendEncode(text[:0], raw)
		back, _ = flow.AppendDecode(back[:0], text)
	}
}

// TestResembles: of all bytes those of the alphabet make a text that resembles a token.
func TestResembles(t *testing.T) {
	text := strings.Repeat("A", 40)
	for c := range 256 {
		want := strings.IndexByte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_", byte(c)) >= 0
		if got := flow.Resembles([]byte(text + string([]byte{byte(c)}))); got != want {
			t.Errorf("with byte %#x: %v, want %v", c, got, want)
		}
	}
}
