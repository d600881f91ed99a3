package policy

import (
	"encoding/json"
	"time"
)

// Exhibit is a message that counted against a source.
type Exhibit struct {
	Time    time.Time `json:"time"`
	Reason  string    `json:"reason"`
	Method  string    `json:"method"`
	Status  int       `json:"status,omitempty"` // of the answer to it
	Account string    `json:"account,omitempty"`
	Nonce   string    `json:"nonce,omitempty"` // where that of its credentials came from
	Proven  bool      `json:"proven"`
	Detail  string    `json:"detail,omitempty"`
	// Text is the head of the message, of the answer if it is an answer that
	// counted, without credentials.
	Text string `json:"text,omitempty"`
}

// Evidence is what is kept with a ban: why it was made.
type Evidence struct {
	Charge   string    `json:"charge"`
	Standing string    `json:"standing"`
	Proven   bool      `json:"proven"`
	Exhibits []Exhibit `json:"exhibits,omitempty"`
}

// The sizes of exhibits.
const (
	exhibitSlots = 6
	exhibitText  = 640
)

// exhibits keeps the latest messages that counted against a source, for people.
// Nothing is decided by them.
//
// Memory: 4,785 bytes for a source. When a bucket is full, the source whose latest
// exhibit is oldest makes room, those on unproven evidence first.
type exhibits struct {
	slots [exhibitSlots]exhibit
	next  uint8
	last  int64
	real  bool // at least one was proven
}

type exhibit struct {
	time     int64
	status   uint16
	reason   Reason
	nonce    Nonce
	proven   bool
	nMethod  uint8
	nAccount uint8
	nDetail  uint8
	nText    uint16
	method   [16]byte
	account  [64]byte
	detail   [48]byte
	text     [exhibitText]byte
}

func newExhibits(sources int) *table[exhibits] {
	return newTable(max(sources, 32), func(v *exhibits, _ int64) int64 {
		if v.real {
			return v.last + 3600*second
		}
		return v.last
	})
}

func (e *Engine) exhibitRequest(s *subject, r *Request, reason Reason, detail string) {
	e.exhibit(s, exhibit{reason: reason, nonce: r.Nonce, proven: r.proven()}, r.Method, detail, r.Text)
}

func (e *Engine) exhibitOutcome(s *subject, o *Outcome, proven bool) {
	e.exhibit(s, exhibit{reason: ReasonRegister, nonce: o.Nonce, proven: proven, status: uint16(o.Status)}, o.Method, "", o.Text)
}

func (e *Engine) exhibit(s *subject, x exhibit, method []byte, detail string, text Excerpter) {
	b := e.exhibits.lock(s.source)
	defer b.mu.Unlock()
	i, found := e.exhibits.slot(b, s.source, s.now)
	v := &b.vals[i]
	if !found { // what is in the slots need not be cleared
		b.keys[i], v.next, v.real = s.source, 0, false
		for j := range v.slots {
			v.slots[j].time = 0
		}
	}
	v.last, v.real = s.now, v.real || x.proven
	to := &v.slots[v.next]
	v.next = (v.next + 1) % exhibitSlots
	to.time, to.status, to.reason, to.nonce, to.proven = s.now, x.status, x.reason, x.nonce, x.proven
	to.nMethod = uint8(copy(to.method[:], method))
	to.nAccount = uint8(copy(to.account[:], s.name()))
	to.nDetail = uint8(copy(to.detail[:], detail))
	to.nText = 0
	if text != nil {
		to.nText = uint16(copy(to.text[:], text.AppendRedacted(to.text[:0])))
	}
}

// exhibitsOf returns what counted against a source, oldest first.
func (e *Engine) exhibitsOf(source uint64) []Exhibit {
	b := e.exhibits.lock(source)
	defer b.mu.Unlock()
	v := b.find(source)
	if v == nil {
		return nil
	}
	var all []Exhibit
	for i := range v.slots {
		x := &v.slots[(int(v.next)+i)%exhibitSlots]
		if x.time == 0 {
			continue
		}
		shown := Exhibit{
			Time: time.Unix(0, x.time).UTC(), Reason: x.reason.String(), Status: int(x.status), Proven: x.proven,
			Method: string(x.method[:x.nMethod]), Account: string(x.account[:x.nAccount]),
			Detail: string(x.detail[:x.nDetail]), Text: string(x.text[:x.nText]),
		}
		if x.nonce != NonceNone {
			shown.Nonce = x.nonce.String()
		}
		all = append(all, shown)
	}
	return all
}

// maxEvidence is how much JSON goes with a ban.
const maxEvidence = 8 << 10

// evidence returns why a source is banned, as JSON. If it is too long, messages
// lose their text, the oldest first.
func (e *Engine) evidence(s *subject, c *charge) []byte {
	v := Evidence{
		Charge: c.String(), Standing: e.regard(s).String(), Proven: c.proven,
		Exhibits: e.exhibitsOf(s.source),
	}
	for i := 0; ; i++ {
		b, err := json.Marshal(v)
		if err != nil || i >= len(v.Exhibits) || len(b) <= maxEvidence {
			return b
		}
		v.Exhibits[i].Text = ""
	}
}
