package admin_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"sipward/admin"
	"sipward/policy"
	"sipward/policy/ban"
	"sipward/policy/event"
)

// reader takes events from a stream, in the background of a test.
type reader struct {
	got chan [2]string // name and data
	res *http.Response
}

// follow opens a stream, with the read token unless there are headers, and waits until it is
// subscribed.
func (s *site) follow(t *testing.T, path string, headers ...string) *reader {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+s.addr+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(headers) == 0 {
		headers = []string{bearer(s.read)}
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	res, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if ct := res.Header.Get("Content-Type"); res.StatusCode != 200 || ct != "text/event-stream" {
		t.Fatalf("%s, %s", res.Status, ct)
	}
	r := &reader{got: make(chan [2]string, 10_000), res: res}
	lines := bufio.NewScanner(res.Body)
	if !lines.Scan() || !strings.HasPrefix(lines.Text(), ":") {
		t.Fatalf("the stream begins with %q, %v", lines.Text(), lines.Err())
	}
	go func() {
		defer close(r.got)
		name := ""
		for lines.Scan() {
			if n, ok := strings.CutPrefix(lines.Text(), "event: "); ok {
				name = n
			}
			if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
				r.got <- [2]string{name, data}
			}
		}
	}()
	t.Cleanup(func() {
		res.Body.Close()
		for range r.got {
		}
	})
	return r
}

func (r *reader) next(t *testing.T, want string, into any) {
	t.Helper()
	select {
	case got, ok := <-r.got:
		if !ok || got[0] != want {
			t.Fatalf("%q, want %s", got, want)
		}
		if err := json.Unmarshal([]byte(got[1]), into); err != nil {
			t.Fatal(err)
		}
	case <-time.After(30 * time.Second):
		t.Fatalf("no %s came", want)
	}
}

func TestEvents(t *testing.T) {
	var bus *event.Bus
	var bans *ban.Table
	s := newSite(t, &backend{}, func(c *admin.Config, _ *admin.AccessConfig) { bus, bans = c.Events, c.Bans })
	all, dropped := s.follow(t, "/v1/events"), s.follow(t, "/v1/events?verdict=drop,reject")
	ev := event.Event{
		Time: time.Now().UnixNano(), Source: netip.MustParseAddrPort("192.0.2.1:5060"), Transport: policy.TCP,
		Reason: policy.ReasonPass, Method: "INVITE",
	}
	bus.Publish(&ev)
	ev.Verdict, ev.Reason, ev.Method = policy.Drop, policy.ReasonScanner, "OPTIONS"
	ev.Account.SetString("x\"<script>\r\n\r\nevent: ban\ndata: {}\xff")
	bus.Publish(&ev)
	var m admin.Event
	all.next(t, "message", &m)
	if m.Verdict != "pass" || m.Method != "INVITE" || m.Source != "192.0.2.1:5060" || m.Transport != "tcp" || m.Protocol != "sip" {
		t.Errorf("%+v", m)
	}
	for _, r := range []*reader{all, dropped} { // the second sees nothing else
		r.next(t, "message", &m)
		if m.Verdict != "drop" || m.Reason != "scanner" || !strings.HasPrefix(m.Account, "x\"<script>\r\n\r\nevent: ban") {
			t.Errorf("%+v", m)
		}
	}
	now := time.Now()
	p := netip.MustParsePrefix("192.0.2.7/32")
	if _, err := bans.Add(ban.Record{Prefix: p, Kind: ban.Manual, Start: now.UnixNano(), Reason: "ban", Guard: "command", Origin: "command", Evidence: []byte(`{"by":"x"}`)}, now.UnixNano()); err != nil {
		t.Fatal(err)
	}
	var c admin.BanChange
	dropped.next(t, "ban", &c)
	if c.Change != "added" || c.Ban.Prefix != p || c.Ban.Evidence != nil {
		t.Errorf("%+v", c)
	}
	for _, path := range []string{"/v1/events?verdict=none", "/v1/events?verdict=", "/v1/events?x=1", "/v1/events?address=", "/v1/events?address=host", "/v1/events?verdict=drop&verdict=pass"} {
		if res, answer := s.send(t, "GET", path, "", bearer(s.read)); res.StatusCode != 400 {
			t.Errorf("%s: %s %s", path, res.Status, answer)
		}
	}
}

// TestEventsOfOne: a stream about one source shows what it sends, what a PBX sends to it, and its bans.
func TestEventsOfOne(t *testing.T) {
	var bus *event.Bus
	var bans *ban.Table
	s := newSite(t, &backend{}, func(c *admin.Config, _ *admin.AccessConfig) { bus, bans = c.Events, c.Bans })
	r := s.follow(t, "/v1/events?address=192.0.2.0/28&verdict=drop,pass")
	address := netip.MustParseAddrPort
	for _, ev := range []event.Event{
		{Source: address("198.51.100.1:5060"), Method: "INVITE"},
		{Source: address("192.0.2.7:5060"), Method: "INVITE", Verdict: policy.Reject},
		{Source: address("192.0.2.7:5060"), Method: "REGISTER"},
		{Source: address("203.0.113.2:5060"), Client: address("198.51.100.1:5060"), Direction: event.FromPBX, Method: "INVITE", Status: 486},
		{Source: address("203.0.113.2:5060"), Client: address("192.0.2.7:5060"), Direction: event.FromPBX, Method: "REGISTER", Status: 403},
		{Source: address("192.0.2.99:5060"), Method: "INVITE"},
		{Source: address("192.0.2.1:5060"), Method: "BYE", Verdict: policy.Drop},
	} {
		bus.Publish(&ev)
	}
	for _, want := range []string{"REGISTER 0 ", "REGISTER 403 192.0.2.7:5060", "BYE 0 "} {
		var m admin.Event
		if r.next(t, "message", &m); fmt.Sprint(m.Method, " ", m.Status, " ", m.Client) != want {
			t.Errorf("%+v, want %s", m, want)
		}
	}
	now := time.Now().UnixNano()
	for _, p := range []string{"192.0.2.99/32", "192.0.2.8/32"} {
		if _, err := bans.Add(ban.Record{Prefix: netip.MustParsePrefix(p), Kind: ban.Manual, Start: now, Reason: "ban", Guard: "command", Origin: "command"}, now); err != nil {
			t.Fatal(err)
		}
	}
	var c admin.BanChange
	if r.next(t, "ban", &c); c.Ban.Prefix.String() != "192.0.2.8/32" {
		t.Errorf("%+v", c)
	}
}

// TestEventsOfAnAttack: a stream shows a part, and says how many it did not show.
func TestEventsOfAnAttack(t *testing.T) {
	var bus *event.Bus
	s := newSite(t, &backend{}, func(c *admin.Config, _ *admin.AccessConfig) { bus = c.Events })
	r := s.follow(t, "/v1/events")
	const sent = 50_000
	for range sent {
		bus.Publish(&event.Event{Verdict: policy.Drop, Reason: policy.ReasonFlood})
	}
	shown, lost := 0, uint64(0)
	for deadline := time.After(30 * time.Second); uint64(shown)+lost < sent; {
		select {
		case got := <-r.got:
			var l admin.Lost
			if got[0] == "message" {
				shown++
			} else if err := json.Unmarshal([]byte(got[1]), &l); err != nil {
				t.Fatal(err)
			}
			lost += l.Messages
		case <-deadline:
			t.Fatalf("%d shown, %d lost, of %d", shown, lost, sent)
		}
	}
	if uint64(shown)+lost != sent || shown == 0 || shown > 2000 {
		t.Errorf("%d shown, %d lost, of %d", shown, lost, sent)
	}
}

// TestStreamsEnd: a stream outlives the limits of other requests, there is a cap, and it
// ends with the server.
func TestStreamsEnd(t *testing.T) {
	t.Parallel()
	var bus *event.Bus
	s := newSite(t, &backend{}, func(c *admin.Config, _ *admin.AccessConfig) { bus = c.Events })
	r := s.follow(t, "/v1/events")
	for range 15 {
		s.follow(t, "/v1/events")
	}
	if res, answer := s.send(t, "GET", "/v1/events", "", bearer(s.read)); res.StatusCode != 429 {
		t.Errorf("one too many: %s %s", res.Status, answer)
	}
	<-time.After(6 * time.Second) // beyond the time that a request may take
	bus.Publish(&event.Event{Reason: policy.ReasonPass})
	var m admin.Event
	r.next(t, "message", &m)
}

// TestStreamsEndWithTheirToken: who may no longer read sees nothing more; others do.
func TestStreamsEndWithTheirToken(t *testing.T) {
	var bus *event.Bus
	var known admin.AccessConfig
	s := newSite(t, &backend{}, func(c *admin.Config, a *admin.AccessConfig) { bus, known = c.Events, *a })
	log := func() string {
		res, answer := s.send(t, "POST", "/v1/session", "", bearer(s.write))
		if res.StatusCode != 200 {
			t.Fatal(res.Status, answer)
		}
		return "Cookie: " + res.Cookies()[0].Name + "=" + res.Cookies()[0].Value
	}
	out, in := log(), log()
	byToken, loggedOut, loggedIn := s.follow(t, "/v1/events"), s.follow(t, "/v1/events", out), s.follow(t, "/v1/events", in)
	ends := func(what string, r *reader) {
		t.Helper()
		deadline := time.After(15 * time.Second)
		for {
			select {
			case _, ok := <-r.got:
				if !ok {
					return
				}
			case <-deadline:
				t.Fatalf("%s: the stream goes on", what)
			}
		}
	}
	if res, answer := s.send(t, "DELETE", "/v1/session", "", out, "Origin: http://"+s.addr); res.StatusCode != 200 {
		t.Fatal(res.Status, answer)
	}
	ends("logged out", loggedOut)
	next, err := admin.NewAccess(admin.AccessConfig{Tokens: known.Tokens[1:]}) // the write token
	if err != nil {
		t.Fatal(err)
	}
	s.SetAccess(next)
	ends("the token is gone", byToken)
	for range 10 { // wrong tokens from the same address change nothing for who is in
		s.send(t, "GET", "/v1/status", "", bearer("wrong"))
	}
	<-time.After(2 * time.Second) // longer than what it takes to be looked at
	bus.Publish(&event.Event{Reason: policy.ReasonPass})
	var m admin.Event
	loggedIn.next(t, "message", &m)
}
