package resolve

import (
	"net/netip"
	"strings"
	"testing"
)

// The host of a URI is a stranger's text as far as the PBX let it through: no
// panic, an address is what netip takes for one, and a name comes out in one
// form only.
func FuzzHost(f *testing.F) {
	for _, s := range []string{"192.0.2.1", "[2001:db8::1]", "::1", "[::ffff:1.2.3.4]", "example.com.", "A-b.c", "1234", "1.2.3", "[::1", "fe80::1%x", "..", "-", "a_b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, host string) {
		bare := host
		if len(host) > 1 && host[0] == '[' && host[len(host)-1] == ']' {
			bare = host[1 : len(host)-1]
		}
		want, err := netip.ParseAddr(bare)
		isAddr := err == nil && want.Zone() == ""
		if got, ok := Numeric([]byte(host)); ok != isAddr || ok && got != want.Unmap() {
			t.Errorf("Numeric(%q) = %v %v, want %v %v", host, got, ok, want, isAddr)
		}
		name, ok := canonical(host)
		if !ok {
			return
		}
		if again, ok := canonical(name); !ok || again != name || name != strings.ToLower(name) || len(name) > maxName {
			t.Errorf("canonical(%q) = %q, and of that %q %v", host, name, again, ok)
		}
	})
}
