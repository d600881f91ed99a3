package sip_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"sipward/sip"
	"sipward/sip/siptest"
)

type naiveSplice struct {
	off, end int
	text     string
}

// naiveEdit applies splices byte by byte. ok is false when they overlap.
func naiveEdit(buf []byte, splices []naiveSplice) (out []byte, ok bool) {
	for i, a := range splices {
		for _, b := range splices[:i] {
			if a.off < b.end && b.off < a.end {
				return nil, false
			}
		}
	}
	for p := 0; p <= len(buf); p++ {
		gone := false
		for _, s := range splices {
			if s.off == p {
				out = append(out, s.text...)
			}
			gone = gone || s.off <= p && p < s.end
		}
		if p < len(buf) && !gone {
			out = append(out, buf[p])
		}
	}
	return out, true
}

// Edit against the naive implementation, on splices that rarely overlap.
func TestEditNaive(t *testing.T) {
	m := parse(t, string(register()))
	var e sip.Edit
	rapid.Check(t, func(t *rapid.T) {
		splices := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) naiveSplice {
			off := rapid.IntRange(0, len(m.Buf)).Draw(t, "off")
			length := rapid.SampledFrom([]int{0, 0, 1, 3, 20}).Draw(t, "length")
			return naiveSplice{off, min(off+length, len(m.Buf)), rapid.StringMatching("[a-z]{0,5}").Draw(t, "text")}
		}), 0, 12).Draw(t, "splices")
		e.Reset(m)
		for _, s := range splices {
			e.Begin(sip.Span{Off: uint32(s.off), End: uint32(s.end)})
			e.B = append(e.B, s.text...)
			e.End()
		}
		want, ok := naiveEdit(m.Buf, splices)
		got := e.AppendTo(nil)
		if (e.Err() == nil) != ok || ok && !bytes.Equal(got, want) {
			t.Fatalf("err %v, naive %v:\n%q\n%q", e.Err(), ok, got, want)
		}
	})
}

// DeleteValue against a naive notion of lists: what is left are the values that
// were not deleted, in their order, and all other lines as they were.
func TestDeleteValueNaive(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		count := 0
		lines := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) string {
			if rapid.IntRange(0, 3).Draw(t, "kind") == 0 {
				return "X-Other: a, b"
			}
			value := rapid.Custom(func(t *rapid.T) string {
				count++
				return fmt.Sprintf(rapid.SampledFrom([]string{"<sip:h%d;lr>", "\"a,b\" <sip:h%d>", "<sip:h%d>;x=\"1,2\""}).Draw(t, "value"), count)
			})
			values := rapid.SliceOfN(value, 1, 5).Draw(t, "values")
			return "Route:" + rapid.SampledFrom([]string{"", " ", "\r\n "}).Draw(t, "lead") +
				strings.Join(values, rapid.SampledFrom([]string{",", ", ", " , ", ",\r\n\t"}).Draw(t, "comma"))
		}), 0, 5).Draw(t, "lines")
		m := new(sip.Message)
		if fault := m.Parse(siptest.Request("BYE", siptest.Options{Headers: lines}), false); fault != sip.OK {
			t.Fatalf("Parse: %v", fault)
		}
		var all []sip.ValueIter
		var left []string
		for it := m.Values(sip.HeaderRoute); it.Next(); {
			all = append(all, it)
		}
		gone := make([]bool, len(all))
		var order []int
		for i := range all {
			if gone[i] = rapid.Bool().Draw(t, "gone"); gone[i] {
				order = append(order, i)
			} else {
				left = append(left, string(m.Text(all[i].Value)))
			}
		}
		var e sip.Edit
		e.Reset(m)
		if len(order) > 1 {
			order = rapid.Permutation(order).Draw(t, "order")
		}
		for _, i := range order {
			e.DeleteValue(m, all[i].Header, all[i].Value)
		}
		out := e.AppendTo(nil)
		if e.Err() != nil || len(out) != e.Size() {
			t.Fatalf("edit: %v", e.Err())
		}
		checkDeleted(t, m, out, left, gone, all)
	})
}

func checkDeleted(t *rapid.T, m *sip.Message, out []byte, left []string, gone []bool, all []sip.ValueIter) {
	again := new(sip.Message)
	if fault := again.Parse(out, false); fault != sip.OK {
		t.Fatalf("edited: %v\n%q", fault, out)
	}
	var got []string
	it := again.Values(sip.HeaderRoute)
	for it.Next() {
		got = append(got, string(again.Text(it.Value)))
	}
	if !slices.Equal(got, left) || it.Fault != sip.OK {
		t.Fatalf("left: %q, want %q (%v)", got, left, it.Fault)
	}
	var want, have []string // the lines that no value was taken from
	touched := map[int]bool{}
	for i, it := range all {
		touched[it.Header] = touched[it.Header] || gone[i]
	}
	for i, h := range m.Headers {
		if !touched[i] {
			want = append(want, string(m.Text(h.Line)))
		}
	}
	for _, h := range again.Headers {
		have = append(have, string(again.Text(h.Line)))
	}
	for _, line := range want {
		i := slices.Index(have, line)
		if i < 0 {
			t.Fatalf("line %q is gone:\n%q", line, out)
		}
		have = have[i+1:]
	}
	for _, h := range again.Headers {
		if h.ID == sip.HeaderRoute && h.Value.Empty() {
			t.Fatalf("empty Route line left: %q", out)
		}
	}
}
