package sip_test

import (
	"strings"
	"testing"
	"time"

	"sipward/sip"
)

// hostile are messages of 64 KB made to cost time.
func hostile() map[string]string {
	fill := func(prefix, unit, suffix string) string {
		var b strings.Builder
		b.WriteString(strings.TrimSuffix(base, "\r\n\r\nbody"))
		for b.Len() < 60000 {
			b.WriteString("\r\n" + prefix + strings.Repeat(unit, 8000/len(unit)) + suffix)
		}
		return b.String() + "\r\n\r\n"
	}
	return map[string]string{
		"Vias":              fill("Via: SIP/2.0/UDP a", ",b", ""),
		"empty Vias":        fill("Via: SIP/2.0/UDP a", ",", ""),
		"open quotes":       fill("Via: a,", "\"", ""),
		"open brackets":     fill("Via: a,", "<", ""),
		"quotes in quotes":  fill("Via: a,", "<\"\">", ",b"),
		"brackets":          fill("Contact: ", "<a>,", "b"),
		"backslashes":       fill("Via: a,\"", "\\\"", ""),
		"folds":             fill("Via: a", "\r\n b", ""),
		"colons":            fill("X", ":", ""),
		"no colons":         fill("X", "x", ""),
		"short lines":       fill("", "X:y\r\n", "X:z"),
		"no line end":       strings.Repeat("x", 60000),
		"secrets":           fill("X: ", "nonce=\"", ""),
		"passwords":         fill("X: ", "sip:", ""),
		"parameters in To":  change(base, "To: <sip:a@b>"+strings.Repeat(";x", 3000)),
		"parameters in Via": change(base, "Via: SIP/2.0/UDP a"+strings.Repeat(";x=\"\"", 1500)),
		"credentials":       change(base, "Authorization: Digest x=1"+strings.Repeat(",y=\"\"", 1300)),
	}
}

// TestHostile: no message costs time out of proportion to its length. The bounds
// are wide, for slow machines; a quadratic scan would take seconds.
func TestHostile(t *testing.T) {
	var m sip.Message
	for name, msg := range hostile() {
		b := []byte(msg)
		best := time.Hour
		for range 5 {
			start := time.Now()
			m.Parse(b, false)
			for id := sip.HeaderVia; int(id) < sip.HeaderCount; id++ {
				for it := m.Values(id); it.Next(); {
				}
			}
			if h := m.Find(sip.HeaderAuthorization); h != nil {
				sip.ParseCredentials(m.Buf, h.Value)
			}
			best = min(best, time.Since(start))
		}
		redact := time.Hour
		for range 3 { // the least, for others may use the machine
			start := time.Now()
			sip.Redact(nil, b)
			redact = min(redact, time.Since(start))
		}
		t.Logf("%-18s %d bytes: scan and walk %v, redact %v", name, len(b), best, redact)
		if best > 100*time.Millisecond || redact > time.Second {
			t.Errorf("%s: scan and walk %v, redact %v", name, best, redact)
		}
	}
}
