package policy_test

import (
	"container/heap"
	"net/netip"
	"testing"
	"time"

	"sipward/policy"
	"sipward/policy/ban"
	"sipward/policy/gate"
	"sipward/policy/scanner"
)

// sim is an edge without a network: it asks the engine about each message as the
// proxy does, and a pretended PBX answers. Its clock moves from event to event.
type sim struct {
	t       testing.TB
	e       *policy.Engine
	bans    *ban.Table
	places  *ban.Places
	pbx     func(m *msg) answer
	now     int64
	events  eventQueue
	order   int
	lastTx  uint64
	reached map[netip.Addr]int // messages that a PBX got
	guesses map[netip.Addr]int // of them those with credentials
	told    []policy.Notice
}

// msg is a request.
type msg struct {
	src     string // address:port
	tr      policy.Transport
	method  string
	account string
	target  string
	secret  string // the password; empty: no credentials
	nonce   policy.Nonce
	proven  bool
	inside  bool   // To has a tag
	tx      uint64 // 0: a new transaction
	dialog  uint64
	scan    *scanner.Message

	certified bool // over a connection whose client has shown a trunk's certificate
}

// answer is what the PBX says, or nothing.
type answer struct {
	status  int
	expires int64
	stale   bool
	after   time.Duration
	none    bool // nothing is ever heard
	other   bool // it asks for credentials of the other kind
}

// fate is what became of a request: what was decided about it, and the status of
// the answer that its sender got, 0 if none.
type fate struct {
	policy.Decision
	status  int
	uniform bool
}

const hitCount = 10

func simConfig() policy.Config {
	return policy.Config{
		Register:        policy.Register{HitCount: hitCount, MonitPeriod: time.Minute, BlockTime: time.Hour, BlockThreshold: 5},
		Invite:          policy.Invite{RateLimit: 30},
		Enumeration:     policy.Enumeration{Accounts: 15, Period: time.Minute},
		Malformed:       policy.Malformed{Threshold: 20, Period: time.Minute},
		DistinctSources: policy.DistinctSources{Count: 20, Window: 10 * time.Minute},
		Allow:           hosts("192.0.2.250"),
		Trunks:          hosts("192.0.2.240/29"),
		Uniform:         true,
		Sources:         4096,
	}
}

func newSim(t testing.TB, cfg policy.Config) *sim {
	s := &sim{t: t, now: int64(1_000_000 * time.Hour), reached: map[netip.Addr]int{}, guesses: map[netip.Addr]int{}}
	s.pbx = s.registrar
	var err error
	s.bans, err = ban.New(ban.Config{Threshold: cfg.Register.BlockThreshold}, s.now)
	if err != nil {
		t.Fatal(err)
	}
	s.places, err = ban.NewPlaces(ban.PlacesConfig{}, s.now)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Bans, cfg.Places = s.bans, s.places
	cfg.Notify = func(n policy.Notice) { s.told = append(s.told, n) }
	s.e = policy.New(cfg)
	return s
}

// registrar is the PBX: every account's password is "right".
func (s *sim) registrar(m *msg) answer {
	switch {
	case m.method == "OPTIONS", m.method == "BYE", m.method == "CANCEL":
		return answer{status: 200}
	case m.secret == "":
		return answer{status: 401}
	case m.secret == "old nonce":
		return answer{status: 401, stale: true}
	case m.secret != "right", m.nonce != policy.NonceIssued:
		return answer{status: 401}
	case m.method == "REGISTER":
		return answer{status: 200, expires: 3600}
	}
	return answer{status: 200}
}

type event struct {
	at    int64
	order int
	do    func()
}

type eventQueue []event

func (q eventQueue) Len() int { return len(q) }
func (q eventQueue) Less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].order < q[j].order
}
func (q eventQueue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *eventQueue) Push(x any)   { *q = append(*q, x.(event)) }
func (q *eventQueue) Pop() any {
	last := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return last
}

// after has f done later.
func (s *sim) after(d time.Duration, f func()) {
	s.order++
	heap.Push(&s.events, event{s.now + int64(d), s.order, f})
}

// run lets time pass.
func (s *sim) run(d time.Duration) {
	until := s.now + int64(d)
	for len(s.events) > 0 && s.events[0].at <= until {
		ev := heap.Pop(&s.events).(event)
		s.now = ev.at
		ev.do()
	}
	s.now = until
	s.e.Tick(s.now)
}

func (s *sim) newTx() uint64 {
	s.lastTx++
	return s.lastTx * 0x9E3779B97F4A7C15
}

// send sends a request; done learns what became of it, at the latest when the
// answer comes.
func (s *sim) send(m msg, done func(fate)) {
	if done == nil {
		done = func(fate) {}
	}
	if m.tx == 0 {
		m.tx = s.newTx()
	}
	src := netip.MustParseAddrPort(m.src)
	v := s.e.Gate().Check(src.Addr(), s.now)
	if !v.Pass() {
		done(fate{Decision: policy.FromGate(v)})
		return
	}
	if m.certified {
		v = gate.PassTrusted
		s.e.Vouch(src.Addr(), s.now)
	}
	r := policy.Request{
		Source: src, Transport: m.tr, Gate: v, Method: []byte(m.method), Account: []byte(m.account),
		Target: []byte(m.target), HasCredentials: m.secret != "", Nonce: m.nonce,
		Proven:   m.proven || m.tr.Connected() || m.nonce == policy.NonceIssued,
		InDialog: m.inside, Transaction: m.tx, Credentials: credentials(m), Dialog: m.dialog, Scan: m.scan, Text: shown(m.method),
	}
	d := s.e.Decide(&r, s.now)
	if d.Verdict != policy.Pass {
		f := fate{Decision: d}
		if d.Verdict == policy.Reject {
			f.status = d.Code
		}
		done(f)
		return
	}
	s.reached[src.Addr()]++
	if r.HasCredentials {
		s.guesses[src.Addr()]++
	}
	if m.method == "ACK" {
		done(fate{Decision: d})
		return
	}
	a := s.pbx(&m)
	if a.none {
		done(fate{Decision: d})
		return
	}
	reply := func() {
		o := policy.Outcome{
			Source: r.Source, Transport: r.Transport, Method: r.Method, Status: a.status, Account: r.Account,
			Target: r.Target, HasCredentials: r.HasCredentials, Nonce: r.Nonce, Proven: m.tr.Connected() || m.nonce == policy.NonceIssued, InDialog: r.InDialog,
			Transaction: r.Transaction, Credentials: r.Credentials, Stale: a.stale, Unjudged: a.other && r.HasCredentials, Expires: a.expires, Dialog: m.dialog,
			Certified: m.certified, Text: shown(m.method),
		}
		f := fate{Decision: d}
		if back := s.e.Observe(&o, s.now); back.Verdict == policy.Pass {
			f.status, f.uniform = a.status, back.Uniform
		}
		done(f)
	}
	if a.after == 0 {
		reply()
		return
	}
	s.after(a.after, reply)
}

// ask sends a request that is answered at once.
func (s *sim) ask(m msg) (f fate) {
	s.send(m, func(got fate) { f = got })
	return f
}

// register lets a phone register, as it does: without credentials first.
func (s *sim) register(src, account string) fate {
	s.ask(msg{src: src, method: "REGISTER", account: account})
	return s.ask(msg{src: src, method: "REGISTER", account: account, secret: "right", nonce: policy.NonceIssued})
}

func credentials(m msg) uint64 {
	h := uint64(0)
	for _, c := range m.secret {
		h = (h + uint64(c)) * 0x100000001B3
	}
	return h
}

// shown pretends to be a message.
type shown string

func (s shown) AppendRedacted(dst []byte) []byte {
	return append(append(dst, s...), " sip:pbx SIP/2.0"...)
}

// banned returns the ban of an address, nil if there is none.
func (s *sim) banned(addr string) *ban.Record {
	r, ok := s.bans.Lookup(netip.MustParseAddr(addr), s.now)
	if !ok {
		return nil
	}
	return &r
}

// notices counts those of a kind.
func (s *sim) notices(kind policy.NoticeKind) (n int) {
	for _, v := range s.told {
		if v.Kind == kind {
			n++
		}
	}
	return n
}

func (s *sim) noBans() {
	s.t.Helper()
	if all, _ := s.bans.Snapshot(); len(all) > 0 {
		s.t.Errorf("%d banned, among them %v for %s: %s", len(all), all[0].Prefix, all[0].Reason, all[0].Comment)
	}
}
