package admin

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"sipward/policy"
	"sipward/policy/ban"
	"sipward/policy/event"
	"sipward/policy/iplist"
)

// Event is one message and what became of it. Account and Detail may hold what a stranger
// wrote; credentials are never in them.
type Event struct {
	Time      time.Time `json:"time"`
	Source    string    `json:"source"` // address and port
	Transport string    `json:"transport"`
	Protocol  string    `json:"protocol"`         // sip, tftp or dns
	Direction string    `json:"direction"`        // "from-outside" or "from-pbx"
	Client    string    `json:"client,omitempty"` // address and port outside that a PBX's message goes to, if known
	Verdict   string    `json:"verdict"`          // pass, drop, reject or hold
	Reason    string    `json:"reason"`
	Method    string    `json:"method,omitempty"`
	Status    int       `json:"status,omitempty"` // of a response, or of sipward's answer
	Account   string    `json:"account,omitempty"`
	Detail    string    `json:"detail,omitempty"`
}

func eventOf(ev *event.Event) Event {
	client := ""
	if ev.Client.IsValid() {
		client = ev.Client.String()
	}
	return Event{
		Client: client,
		Time:   time.Unix(0, ev.Time), Source: ev.Source.String(), Transport: ev.Transport.String(), Protocol: ev.Protocol.String(),
		Direction: ev.Direction.String(), Verdict: ev.Verdict.String(), Reason: ev.Reason.String(),
		Method: ev.Method, Status: int(ev.Status), Account: ev.Account.String(), Detail: ev.Detail.String(),
	}
}

// BanChange is a step in the life of a ban.
type BanChange struct {
	Change string `json:"change"` // added, extended, removed or expired
	Ban    Ban    `json:"ban"`
}

// BanOf shows a ban, without its evidence.
func BanOf(r ban.Record) Ban {
	b := Ban{
		Prefix: r.Prefix, Kind: r.Kind.String(), Start: time.Unix(0, r.Start),
		Reason: r.Reason, Guard: r.Guard, Proven: r.Proven, Blocks: r.Blocks, Origin: r.Origin, Comment: r.Comment,
	}
	if r.Until != 0 {
		b.Until = time.Unix(0, r.Until)
	}
	return b
}

// Lost says how many messages a stream did not show, because there were more than anybody
// can read.
type Lost struct {
	Messages uint64 `json:"messages"`
}

// What a stream of events may cost. Messages are collected for a moment, and of those the
// first ones are shown and the others counted.
const (
	maxStreams       = 16
	streamQueue      = 4096 // of messages
	streamBans       = 256
	streamTick       = 200 * time.Millisecond
	streamMessages   = 40 // in a tick
	streamHeartbeat  = 15 * time.Second
	streamCheck      = time.Second // of whether the reader may still read
	streamWriteLimit = 10 * time.Second
)

// events answers with server-sent events: "message" (Event), "ban" (BanChange), "lost"
// (Lost), and "resync" when changes of bans were lost, so that their list is to be asked
// for again.
func (s *Server) events(w http.ResponseWriter, r *http.Request) error {
	shown, err := eventQuery(r)
	if err != nil {
		return err
	}
	if s.streams.Add(1) > maxStreams {
		s.streams.Add(-1)
		return &Refusal{http.StatusTooManyRequests, fmt.Sprintf("%d streams of events are open already; close one", maxStreams)}
	}
	defer s.streams.Add(-1)
	st := &stream{w: w, control: http.NewResponseController(w), shown: shown}
	if err := st.control.SetReadDeadline(time.Time{}); err != nil {
		return fmt.Errorf("keep a stream open: %w", err)
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	st.messages = s.cfg.Events.Subscribe(streamQueue)
	defer st.messages.Close()
	st.bans = s.cfg.Bans.Subscribe(streamBans)
	defer st.bans.Close()
	st.comment("these are the events")
	tick, check := time.NewTicker(streamTick), time.NewTicker(streamCheck)
	defer tick.Stop()
	defer check.Stop()
	for st.err == nil {
		select {
		case <-r.Context().Done():
			return nil
		case <-s.ending:
			return nil
		case c, ok := <-st.bans.C():
			if !ok {
				return nil
			}
			st.ban(c)
		case <-check.C:
			if !s.gate.still(r) {
				return nil
			}
		case now := <-tick.C:
			st.collect()
			if now.Sub(st.wrote) > streamHeartbeat {
				st.comment("still here")
			}
			st.flush()
		}
	}
	return nil // the client went away; nobody is left to be told
}

// shownEvents is what a stream shows.
type shownEvents struct {
	verdicts []policy.Verdict
	about    netip.Prefix // whose messages and bans; not valid: everybody's
}

func (s *shownEvents) message(ev *event.Event) bool {
	return slices.Contains(s.verdicts, ev.Verdict) &&
		(!s.about.IsValid() || s.about.Contains(ev.Source.Addr()) || s.about.Contains(ev.Client.Addr()))
}

func (s *shownEvents) ban(p netip.Prefix) bool { return !s.about.IsValid() || s.about.Overlaps(p) }

// eventQuery reads what a stream is to show: ?verdict=drop,reject&address=192.0.2.7. All if
// it does not say.
func eventQuery(r *http.Request) (shownEvents, error) {
	all := []policy.Verdict{policy.Pass, policy.Drop, policy.Reject, policy.Hold}
	shown := shownEvents{verdicts: all}
	wrong := &Refusal{http.StatusBadRequest, "the parameters here are address, and verdict with one or more of pass, drop, reject and hold, each once: /v1/events?verdict=drop,reject&address=192.0.2.7"}
	for name, values := range r.URL.Query() {
		switch {
		case len(values) != 1:
			return shown, wrong
		case name == "address":
			p, err := iplist.ParsePrefix(values[0])
			if err != nil {
				return shown, &Refusal{http.StatusBadRequest, err.Error()}
			}
			shown.about = p
		case name == "verdict":
			shown.verdicts = nil
			for word := range strings.SplitSeq(values[0], ",") {
				i := slices.IndexFunc(all, func(v policy.Verdict) bool { return v.String() == word })
				if i < 0 {
					return shown, wrong
				}
				shown.verdicts = append(shown.verdicts, all[i])
			}
		default:
			return shown, wrong
		}
	}
	return shown, nil
}

// stream is what one client reads.
type stream struct {
	w        http.ResponseWriter
	control  *http.ResponseController
	messages *event.Subscription
	bans     *ban.Subscription
	shown    shownEvents

	wrote time.Time // when something was last
	held  bool      // there is something to be flushed
	lost  uint64    // by the subscription, as told already
	err   error     // the first one of writing
}

// collect takes all messages that wait, and shows the first of them.
func (s *stream) collect() {
	shown, skipped := 0, uint64(0)
	for range len(s.messages.C()) {
		ev := <-s.messages.C()
		switch {
		case !s.shown.message(&ev):
		case shown == streamMessages:
			skipped++
		default:
			shown++
			s.send("message", eventOf(&ev))
		}
	}
	lost := s.messages.Lost()
	if n := lost - s.lost + skipped; n > 0 {
		s.lost = lost
		s.send("lost", Lost{n})
	}
}

func (s *stream) ban(c ban.Change) {
	if s.bans.Lost() {
		s.send("resync", struct{}{})
	}
	if !s.shown.ban(c.Record.Prefix) {
		return
	}
	s.send("ban", BanChange{c.Kind.String(), BanOf(c.Record)})
}

// send writes an event. JSON has no line breaks, so nothing in it can look like one more.
func (s *stream) send(name string, body any) {
	text, err := json.Marshal(body)
	if err == nil {
		s.write("event: " + name + "\ndata: " + string(text) + "\n\n")
	}
}

func (s *stream) comment(text string) {
	s.write(": " + text + "\n\n")
	s.flush()
}

func (s *stream) write(text string) {
	if s.err != nil {
		return
	}
	s.wrote, s.held = time.Now(), true
	if s.err = s.control.SetWriteDeadline(s.wrote.Add(streamWriteLimit)); s.err == nil {
		_, s.err = s.w.Write([]byte(text))
	}
}

func (s *stream) flush() {
	if s.held && s.err == nil {
		s.held = false
		s.err = s.control.Flush()
	}
}
