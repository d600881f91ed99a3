package proxy

import (
	"net/netip"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"sipward/sip"
	"sipward/sip/siptest"
)

// TestMarkReceived: whatever the order of a Via's parameters, received and rport are those of
// the source, once, and nothing else changes.
func TestMarkReceived(t *testing.T) {
	const source, rport, received = "198.51.100.7:40000", ";rport=40000", ";received=198.51.100.7"
	rapid.Check(t, func(t *rapid.T) {
		params := rapid.SliceOfDistinct(
			rapid.SampledFrom([]string{";rport", ";rport=9", ";received=192.0.2.1", ";branch=z9hG4bKa", ";x=\"y\""}),
			func(p string) string { return p[:3] },
		).Draw(t, "parameters")
		host := rapid.SampledFrom([]string{"192.0.2.10", "198.51.100.7"}).Draw(t, "host")
		rest := rapid.SampledFrom([]string{"", ", SIP/2.0/UDP 192.0.2.99;branch=z9hG4bKb"}).Draw(t, "rest")
		var want []string
		hasRPort, hasReceived := false, false
		for _, p := range params {
			switch p[:3] {
			case ";rp":
				p, hasRPort = rport, true
			case ";re":
				p, hasReceived = received, true
			}
			want = append(want, p)
		}
		if !hasReceived && (hasRPort || host != "198.51.100.7") {
			want = append(want, received)
		}
		message := func(params []string) string {
			via := "Via: SIP/2.0/UDP " + host + strings.Join(params, "") + rest
			m := string(siptest.Register(siptest.Options{}))
			at := strings.Index(m, "Via: ")
			return m[:at] + via + m[at+strings.Index(m[at:], "\r\n"):]
		}

		task := &task{from: origin{addr: netip.MustParseAddrPort(source)}}
		if fault := task.m.Parse([]byte(message(params)), false); fault != sip.OK {
			t.Fatal(fault)
		}
		task.e.Reset(&task.m)
		task.markReceived()
		got := string(task.e.AppendTo(nil))
		if err := task.e.Err(); err != nil || got != message(want) {
			t.Fatalf("%v\ngot  %q\nwant %q", err, got, message(want))
		}
	})
}
