package flow_test

import (
	"net/netip"
	"testing"

	"sipward/proxy/flow"
)

// FuzzParse: no text that this key did not make verifies, whatever it holds.
func FuzzParse(f *testing.F) {
	key, other := flow.RandomKey(), flow.RandomKey()
	for _, addr := range []string{"192.0.2.1:5060", "[2001:db8::1]:5060"} {
		tok := flow.Token{Addr: netip.MustParseAddrPort(addr), Stream: true}
		f.Add(other.Append(nil, &tok, []byte("10.0.0.5"), 1))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		for kind := flow.KindVia; kind <= flow.KindAlias; kind++ {
			if _, ok := key.Parse(new(flow.Token), text, kind, 1, nil); ok {
				t.Fatalf("%q verifies", text)
			}
		}
	})
}
