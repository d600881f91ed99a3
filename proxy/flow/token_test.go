package flow_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sipward/proxy/flow"

	"pgregory.net/rapid"
)

func drawToken(t *rapid.T) flow.Token {
	addr := func(label string, v6 bool) netip.Addr {
		n := 4
		if v6 {
			n = 16
		}
		b := rapid.SliceOfN(rapid.Byte(), n, n).Draw(t, label)
		if v6 && rapid.Bool().Draw(t, "link-local") {
			copy(b, []byte{0xfe, 0x80, 0, 0, 0, 0, 0, 0})
		}
		a, _ := netip.AddrFromSlice(b)
		if a.Is6() && a.IsLinkLocalUnicast() {
			clear(b[4:8])
			a, _ = netip.AddrFromSlice(b)
			if zone := rapid.Uint32().Draw(t, "zone"); zone != 0 {
				a = a.WithZone(fmt.Sprint(zone))
			}
		}
		return a
	}
	v6 := rapid.Bool().Draw(t, "v6")
	k := flow.Token{
		Kind:      flow.Kind(rapid.IntRange(0, 2).Draw(t, "kind")),
		Side:      flow.Side(rapid.IntRange(0, 1).Draw(t, "side")),
		Stream:    rapid.Bool().Draw(t, "stream"),
		Follow:    rapid.Bool().Draw(t, "follow"),
		Rewritten: rapid.Bool().Draw(t, "rewritten"),
		Listener:  rapid.Byte().Draw(t, "listener"),
		PBX:       rapid.Uint16().Draw(t, "pbx"),
		Addr:      netip.AddrPortFrom(addr("addr", v6), rapid.Uint16().Draw(t, "port")),
	}
	if rapid.Bool().Draw(t, "wildcard") {
		k.Local = addr("local", v6)
	}
	if k.Stream {
		k.Conn = rapid.Uint64Range(0, 1<<48-1).Draw(t, "conn")
		k.Who = rapid.Uint32().Draw(t, "who")
	}
	return k
}

func TestTokenRoundTrip(t *testing.T) {
	key, other := flow.RandomKey(), flow.RandomKey()
	rapid.Check(t, func(t *rapid.T) {
		want := drawToken(t)
		payload := rapid.SliceOfN(rapid.Byte(), 0, flow.MaxPayload).Draw(t, "payload")
		bind := rapid.Uint64().Draw(t, "bind")
		text := key.Append(nil, &want, payload, bind)

		var got flow.Token
		gotPayload, ok := key.Parse(&got, text, want.Kind, bind, nil)
		if !ok || got != want || !bytes.Equal(gotPayload, payload) {
			t.Fatalf("got %+v %q %v, want %+v %q", got, gotPayload, ok, want, payload)
		}
		if _, ok := key.Parse(new(flow.Token), text, want.Kind, bind+1, nil); ok {
			t.Fatal("verified with another binding")
		}
		if _, ok := key.Parse(new(flow.Token), text, (want.Kind+1)%3, bind, nil); ok {
			t.Fatal("verified as another kind")
		}
		if _, ok := other.Parse(new(flow.Token), text, want.Kind, bind, nil); ok {
			t.Fatal("verified with another key")
		}
		i := rapid.IntRange(0, len(text)-1).Draw(t, "flip")
		forged := bytes.Clone(text)
		forged[i] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		if _, ok := key.Parse(new(flow.Token), forged, want.Kind, bind, nil); ok {
			t.Fatalf("verified after a change at %d: %s", i, forged)
		}
		if _, ok := key.Parse(new(flow.Token), text[:len(text)-1], want.Kind, bind, nil); ok {
			t.Fatal("verified when cut")
		}
	})
}

// TestTokenSize holds the sizes on which the length of aliases depends: a PBX
// stores at most 255 bytes of a Contact URI.
func TestTokenSize(t *testing.T) {
	key := flow.RandomKey()
	for _, tc := range []struct {
		name  string
		token flow.Token
		want  int
	}{
		{"udp4", flow.Token{Addr: netip.MustParseAddrPort("192.0.2.1:5060")}, 24},
		{"tcp4", flow.Token{Stream: true, Addr: netip.MustParseAddrPort("192.0.2.1:5060")}, 38},
		{"udp6", flow.Token{Addr: netip.MustParseAddrPort("[2001:db8::1]:5060")}, 40},
	} {
		if got := len(key.Append(nil, &tc.token, nil, 0)); got != tc.want {
			t.Errorf("%s: %d characters, want %d", tc.name, got, tc.want)
		}
	}
}

func TestTokenCharacters(t *testing.T) {
	key := flow.RandomKey()
	for i := range 200 {
		tok := flow.Token{Addr: netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), uint16(i*331))}
		text := key.Append(nil, &tok, []byte("10.0.0.5:5062"), uint64(i))
		if strings.ContainsFunc(string(text), func(r rune) bool {
			return !strings.ContainsRune("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_", r)
		}) {
			t.Fatalf("%q cannot stand unescaped in a user part", text)
		}
	}
}

func TestTokenAllocs(t *testing.T) {
	key := flow.RandomKey()
	tok := flow.Token{Stream: true, Addr: netip.MustParseAddrPort("[2001:db8::1]:5060"), Local: netip.MustParseAddr("2001:db8::2")}
	buf, out := make([]byte, 0, 256), make([]byte, 0, 256)
	payload := []byte("10.0.0.5:5062")
	if n := testing.AllocsPerRun(100, func() {
		text := key.Append(buf, &tok, payload, 7)
		if _, ok := key.Parse(new(flow.Token), text, flow.KindVia, 7, out); !ok {
			t.Fatal("does not verify")
		}
	}); n != 0 {
		t.Fatalf("%v allocations, want 0", n)
	}
}

func TestLoadKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token.key")
	k1, err := flow.LoadKey(path)
	if err != nil {
		t.Fatal(err)
	}
	k2, err := flow.LoadKey(path)
	if err != nil || *k1 != *k2 {
		t.Fatalf("the second load: %v, same key %v", err, k2 != nil && *k1 == *k2)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, %v", info.Mode(), err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := flow.LoadKey(path); err == nil || !strings.Contains(err.Error(), "mode 0640") {
		t.Fatalf("a key that the group can read: %v", err)
	}
	if err := os.WriteFile(path, []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := flow.LoadKey(path); err == nil || !strings.Contains(err.Error(), "5") {
		t.Fatalf("a short key: %v", err)
	}
	if _, err := flow.LoadKey(filepath.Join(path, "missing", "token.key")); err == nil {
		t.Fatal("no error for a folder that does not exist")
	}
}

func BenchmarkTokenAppend(b *testing.B) {
	key := flow.RandomKey()
	tok := flow.Token{Addr: netip.MustParseAddrPort("192.0.2.1:5060")}
	buf := make([]byte, 0, 256)
	b.ReportAllocs()
	for b.Loop() {
		buf = key.Append(buf[:0], &tok, nil, 7)
	}
}

func BenchmarkTokenParse(b *testing.B) {
	key := flow.RandomKey()
	tok := flow.Token{Addr: netip.MustParseAddrPort("192.0.2.1:5060")}
	text := key.Append(nil, &tok, nil, 7)
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := key.Parse(new(flow.Token), text, flow.KindVia, 7, nil); !ok {
			b.Fatal("does not verify")
		}
	}
}
