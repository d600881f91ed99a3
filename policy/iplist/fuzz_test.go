package iplist_test

import (
	"bytes"
	"testing"

	"sipward/policy/iplist"
)

// Whatever a list file holds: no panic, and what is accepted is a prefix in its
// canonical form that reads back as itself.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"192.0.2.1\n", "# x\r\n2001:db8::/32 # y\n", "\ufeff10.0.0.0/8", "::ffff:1.2.3.4/120\n", "1.2.3.4/24", "fe80::1%a", "1.2.3.4 5.6.7.8"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		entries, err := iplist.Parse(bytes.NewReader(b), "fuzz")
		if err != nil && entries != nil {
			t.Error("entries beside an error")
		}
		set := iplist.New(entries)
		for _, e := range entries {
			p, err := iplist.ParsePrefix(e.Prefix.String())
			if err != nil || p != e.Prefix || p != p.Masked() || p.Addr().Is4In6() {
				t.Errorf("%v reads back as %v, %v", e.Prefix, p, err)
			}
			if !set.Contains(e.Prefix.Addr()) {
				t.Errorf("%v is not in its set", e.Prefix)
			}
		}
	})
}
