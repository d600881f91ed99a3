package sip_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"sipward/sip"
	"sipward/sip/siptest"
)

// parse scans a message that must be good.
func parse(tb testing.TB, raw string) *sip.Message {
	tb.Helper()
	m := new(sip.Message)
	if fault := m.Parse([]byte(raw), false); fault != sip.OK {
		tb.Fatalf("Parse: %v\n%q", fault, raw)
	}
	return m
}

// routes returns an INVITE with these lines in its middle.
func routes(lines ...string) string {
	return string(siptest.Request("INVITE", siptest.Options{Headers: lines}))
}

// deleteRoutes deletes the Route values with these indexes.
func deleteRoutes(tb testing.TB, m *sip.Message, indexes ...int) string {
	tb.Helper()
	var e sip.Edit
	e.Reset(m)
	n := 0
	var all []sip.ValueIter
	for it := m.Values(sip.HeaderRoute); it.Next(); n++ {
		all = append(all, it)
	}
	for _, i := range indexes {
		e.DeleteValue(m, all[i].Header, all[i].Value)
	}
	out := e.AppendTo(nil)
	if e.Err() != nil || len(out) != e.Size() {
		tb.Fatalf("edit: %v, size %d of %d", e.Err(), len(out), e.Size())
	}
	return string(out)
}

func TestDeleteValue(t *testing.T) {
	one := []string{"Route: <sip:a;lr>, <sip:b;lr>,<sip:c;lr>"}
	two := []string{"Route: <sip:a;lr>", "X-Y: z", "Route:\r\n  <sip:b;lr> ,\r\n <sip:c;lr> "}
	for _, c := range []struct {
		lines, want []string
		delete      []int
	}{
		{one, []string{"Route: <sip:b;lr>,<sip:c;lr>"}, []int{0}},
		{one, []string{"Route: <sip:a;lr>,<sip:c;lr>"}, []int{1}},
		{one, []string{"Route: <sip:a;lr>, <sip:b;lr>"}, []int{2}},
		{one, []string{"Route: <sip:c;lr>"}, []int{0, 1}},
		{one, []string{"Route: <sip:c;lr>"}, []int{1, 0}},
		{one, []string{"Route: <sip:b;lr>"}, []int{0, 2}},
		{one, []string{"Route: <sip:a;lr>"}, []int{2, 1}},
		{one, nil, []int{0, 1, 2}},
		{one, nil, []int{2, 0, 1}},
		{two, two[1:], []int{0}},
		{two, []string{two[0], two[1], "Route:\r\n  <sip:c;lr> "}, []int{1}},
		{two, []string{two[0], two[1], "Route:\r\n  <sip:b;lr> "}, []int{2}},
		{two, two[:2], []int{1, 2}},
		{two, []string{"X-Y: z"}, []int{2, 0, 1}},
	} {
		if got, want := deleteRoutes(t, parse(t, routes(c.lines...)), c.delete...), routes(c.want...); got != want {
			t.Errorf("delete %v of %q:\ngot  %q\nwant %q", c.delete, c.lines, got, want)
		}
	}
}

func TestEditOrder(t *testing.T) {
	m := parse(t, string(siptest.Invite(siptest.Options{})))
	var e sip.Edit
	e.Reset(m)
	add := func(s sip.Span, text string) {
		e.Begin(s)
		e.B = append(e.B, text...)
		e.End()
	}
	top := m.Headers[m.Via.Header].Line.Off
	add(m.MaxForwardsValue, "69")
	add(sip.Span{Off: top, End: top}, "Via: first\r\n")
	add(sip.Span{Off: top, End: top}, "Via: second\r\n")
	add(m.RequestURI, "sip:bob@192.0.2.99")
	e.Delete(m.Via.RPort.Whole)
	got := string(e.AppendTo([]byte("kept")))
	want := string(siptest.Invite(siptest.Options{MaxForwards: 69, RequestURI: "sip:bob@192.0.2.99", NoRPort: true}))
	want = "kept" + strings.Replace(want, "\r\nVia", "\r\nVia: first\r\nVia: second\r\nVia", 1)
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestEditMistakes(t *testing.T) {
	m := parse(t, routes("Route: <sip:a;lr>, <sip:b;lr>"))
	it := m.Values(sip.HeaderRoute)
	it.Next()
	for name, c := range map[string]struct {
		edit func(e *sip.Edit)
		want error
	}{
		"overlap":         {func(e *sip.Edit) { e.Delete(m.CallID); e.Delete(m.CallID) }, sip.ErrEditOverlap},
		"inside":          {func(e *sip.Edit) { e.Delete(m.Via.SentBy); e.Delete(m.Via.Host) }, sip.ErrEditOverlap},
		"insert inside":   {func(e *sip.Edit) { e.Delete(sip.Span{Off: 4, End: 8}); e.Delete(sip.Span{Off: 5, End: 5}) }, sip.ErrEditOverlap},
		"outside":         {func(e *sip.Edit) { e.Delete(sip.Span{Off: 1, End: 1 << 20}) }, sip.ErrEditRange},
		"backwards":       {func(e *sip.Edit) { e.Delete(sip.Span{Off: 2, End: 1}) }, sip.ErrEditRange},
		"open":            {func(e *sip.Edit) { e.Begin(m.CallID) }, sip.ErrEditOpen},
		"not open":        {func(e *sip.Edit) { e.End() }, sip.ErrEditOpen},
		"nested":          {func(e *sip.Edit) { e.Begin(m.CallID); e.Begin(m.Via.Host) }, sip.ErrEditOpen},
		"value twice":     {func(e *sip.Edit) { e.DeleteValue(m, it.Header, it.Value); e.DeleteValue(m, it.Header, it.Value) }, sip.ErrEditOverlap},
		"no value":        {func(e *sip.Edit) { e.DeleteValue(m, it.Header, m.CallID) }, sip.ErrEditRange},
		"no header":       {func(e *sip.Edit) { e.DeleteValue(m, 99, it.Value) }, sip.ErrEditRange},
		"foreign message": {func(e *sip.Edit) { e.DeleteValue(new(sip.Message), it.Header, it.Value) }, sip.ErrEditRange},
		"none":            {func(e *sip.Edit) { e.Delete(m.CallID) }, nil},
		"good again":      {func(e *sip.Edit) { e.Delete(m.CallID); e.Delete(m.CallID); e.Reset(m) }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			var e sip.Edit
			e.Reset(m)
			c.edit(&e)
			if err := e.Err(); !errors.Is(err, c.want) {
				t.Errorf("Err: %v, want %v", err, c.want)
			}
			if out := e.AppendTo(nil); (len(out) == 0) != (c.want != nil) || len(out) != e.Size() {
				t.Errorf("%d bytes, Size %d", len(out), e.Size())
			}
		})
	}
}

// An Edit can be looked at, added to, and looked at again.
func TestEditAfterSize(t *testing.T) {
	m := parse(t, routes("Route: <sip:a;lr>, <sip:b;lr>", "Route: <sip:c;lr>"))
	var e sip.Edit
	e.Reset(m)
	var its []sip.ValueIter
	for it := m.Values(sip.HeaderRoute); it.Next(); {
		its = append(its, it)
	}
	e.DeleteValue(m, its[2].Header, its[2].Value)
	first := e.AppendTo(nil)
	e.Delete(m.Via.RPort.Whole)
	second := e.AppendTo(nil)
	if string(first) != routes("Route: <sip:a;lr>, <sip:b;lr>") {
		t.Errorf("first: %q", first)
	}
	if want := strings.Replace(string(first), ";rport", "", 1); string(second) != want || !slices.Equal(second, e.AppendTo(nil)) {
		t.Errorf("second: %q", second)
	}
}
