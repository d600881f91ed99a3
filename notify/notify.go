// Package notify tells administrators of attacks: by mail, webhook, command and
// syslog.
//
// What the policy notices is grouped into attacks. Each is told once when it begins
// and once when it is over, with its counts, to the channels that the rules choose.
// What is to be told is on disk before it is sent, and stays there until the other
// side has taken it: a channel that is down, or a kill of the process, loses
// nothing. The rule is at least once: whoever took an event in the instant before a
// crash gets it again, with the same id.
//
// Nothing here is waited for by the packet path: Notice and Count never block.
package notify

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"sipward/policy"
	"sipward/policy/ban"
)

// Config is what a Notifier is made of.
type Config struct {
	// Dir holds the spools and the attacks that go on; it is made if it is missing.
	Dir string
	// Node says in each event which sipward it comes from.
	Node string
	// IPv6Bits is how many leading bits of an IPv6 address make one source.
	IPv6Bits int
	// Proxy chooses the HTTP proxy of webhooks; nil: none.
	Proxy func(*http.Request) (*url.URL, error)
	Log   *slog.Logger
	Settings
}

// Settings is what Reload may change.
type Settings struct {
	Channels []Channel
	// Rules choose channels; the first that fits counts. Empty: every channel is told of
	// what is a warning or worse.
	Rules []Rule
	// Quiet is how long nothing must have been heard of an attack before it is over.
	Quiet time.Duration
	// Repeat is how often an attack that goes on is told again. Zero: never.
	Repeat time.Duration
	// Sources is how many sources of one kind of attack are told one by one; the others
	// are one attack together.
	Sources int
	// SpoolSize is how many events may wait in one channel, above zero. When there are
	// more, the oldest is lost and counted.
	SpoolSize int
	// Keep is how long an event may wait before it is given up and counted.
	Keep time.Duration
}

// inputs is how many notices and changes may wait to be grouped. Those beyond are
// counted as lost.
const inputs = 4096

// Notifier groups, chooses, stores and sends. It implements Run(ctx) error.
type Notifier struct {
	cfg   Config
	input chan occurrence
	lost  atomic.Uint64

	mu      sync.Mutex // guards what follows
	attacks *attacks
	queues  map[string]*queue
	stop    map[string]context.CancelFunc // of the queues that run
	ended   map[string]chan struct{}      // closed when the latest queue of that name has ended
	work    *errgroup.Group               // nil before Run
	ctx     context.Context               // of Run
}

// New opens the spools. What waits in them is sent when Run begins.
func New(cfg Config) (*Notifier, error) {
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the folder of notifications: %w", err)
	}
	n := &Notifier{
		cfg: cfg, input: make(chan occurrence, inputs), queues: map[string]*queue{}, stop: map[string]context.CancelFunc{},
		ended: map[string]chan struct{}{},
	}
	var err error
	if n.attacks, err = loadAttacks(filepath.Join(cfg.Dir, "attacks.json"), time.Now()); err != nil {
		cfg.Log.Warn("the attacks that went on when sipward ended are not known; those that still go on are told as new", "err", err)
	}
	if err := n.Reload(cfg.Settings); err != nil {
		return nil, err
	}
	for name, q := range n.queues {
		for _, e := range q.spool.waiting { // nobody else knows of n yet
			if e.event.Phase == PhaseEnd && e.event.Attack != nil {
				n.attacks.ended(e.event.Attack.ID, name)
			}
		}
	}
	return n, nil
}

// Reload puts other settings in force. A channel that is still there keeps what
// waits for it. With an error, the old settings stay.
func (n *Notifier) Reload(s Settings) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	next := map[string]*queue{}
	var fresh []*queue
	for _, c := range s.Channels {
		if q := n.queues[c.Name]; q != nil && q.same(c, &s) {
			next[c.Name] = q
			continue
		}
		q, err := newQueue(c, &s, &n.cfg)
		if err != nil {
			return fmt.Errorf("channel %s: %w", c.Name, err)
		}
		next[c.Name] = q
		fresh = append(fresh, q)
	}
	for name, q := range n.queues {
		if next[name] != q && n.stop[name] != nil {
			n.stop[name]()
			delete(n.stop, name)
		}
	}
	for _, q := range fresh {
		if n.ended[q.channel.Name] == nil {
			q.open()
		}
		n.begin(q)
	}
	n.queues, n.cfg.Settings = next, s
	n.attacks.settings(&s, n.cfg.IPv6Bits)
	return nil
}

// begin has a queue work if Run does, once the last one of that name has come to its
// end. The lock is held.
func (n *Notifier) begin(q *queue) {
	if n.work == nil || n.ctx.Err() != nil {
		return
	}
	name := q.channel.Name
	last := n.ended[name]
	n.ended[name] = q.ended
	ctx, stop := context.WithCancel(n.ctx)
	n.stop[name] = stop
	n.work.Go(func() error { return q.run(ctx, last) })
}

// Run works until ctx ends. What has not been sent by then stays on disk.
func (n *Notifier) Run(ctx context.Context) error {
	n.mu.Lock()
	n.work, n.ctx = new(errgroup.Group), ctx
	for _, q := range n.queues {
		n.begin(q)
	}
	n.mu.Unlock()
	n.group(ctx)
	n.mu.Lock()
	work := n.work
	n.mu.Unlock()
	return work.Wait()
}

// step is how often attacks are looked at for their end.
const step = 100 * time.Millisecond

func (n *Notifier) group(ctx context.Context) {
	tick := time.NewTicker(step)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			n.drain()
			n.mu.Lock()
			n.save(true)
			n.mu.Unlock()
			return
		case o := <-n.input:
			n.handle(func(a *attacks) []telling { return a.take(o) })
		case now := <-tick.C:
			n.handle(func(a *attacks) []telling { return a.tick(now) })
		}
	}
}

// drain takes what is in the input at the end, so that it is on disk.
func (n *Notifier) drain() {
	for {
		select {
		case o := <-n.input:
			n.handle(func(a *attacks) []telling { return a.take(o) })
		default:
			return
		}
	}
}

// handle stores what is to be told before the attacks that it is about, so that a
// crash in between tells twice, and not never.
func (n *Notifier) handle(f func(*attacks) []telling) {
	n.mu.Lock()
	defer n.mu.Unlock()
	tell := f(n.attacks)
	for _, t := range tell {
		t.event.Node = n.cfg.Node
		if q := n.queues[t.channel]; q != nil {
			q.put(t.event)
		}
	}
	n.save(len(tell) > 0)
}

func (n *Notifier) save(now bool) {
	if err := n.attacks.save(now); err != nil {
		n.cfg.Log.Warn("the attacks that go on cannot be stored; after a restart they are told as new", "err", err)
	}
}

// Notice takes what the policy tells. It never waits: what does not fit is lost and
// counted. Notices of bans are passed over, because Change tells of them.
func (n *Notifier) Notice(x policy.Notice) {
	if x.Kind != policy.NoticeBan {
		n.put(ofNotice(&x, time.Now()))
	}
}

// Change takes a change of the ban table. It never waits either.
func (n *Notifier) Change(c ban.Change) {
	if o, ok := ofChange(&c, time.Now()); ok {
		n.put(o)
	}
}

func (n *Notifier) put(o occurrence) {
	select {
	case n.input <- o:
	default:
		n.lost.Add(1)
	}
}

// Count notes messages of a source that were not let through: they count for its
// attacks, and show that these go on. It is not for the packet path.
func (n *Notifier) Count(source netip.Addr, messages uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.attacks.count(source, messages, time.Now())
}

// Wanted says whether there is a channel at all.
func (n *Notifier) Wanted() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.queues) > 0
}

// ErrNoChannel: there is no channel of that name.
var ErrNoChannel = errors.New("notify: no such channel")

// Tested says what became of a test.
type Tested struct {
	Channel string        `json:"channel"`
	Type    string        `json:"type"`
	To      string        `json:"to"`
	Took    time.Duration `json:"took"` // nanoseconds
}

// Test sends a test event by a channel at once, past its queue and its limit. The
// error says what went wrong, without credentials.
func (n *Notifier) Test(ctx context.Context, name string) (Tested, error) {
	n.mu.Lock()
	q := n.queues[name]
	n.mu.Unlock()
	if q == nil {
		return Tested{}, ErrNoChannel
	}
	ev := testEvent(time.Now())
	ev.Node = n.cfg.Node
	began := time.Now()
	err := q.try(ctx, func(ctx context.Context) error { return q.sender.send(ctx, &delivery{Events: []Event{ev}}) })
	return Tested{Channel: name, Type: q.channel.Type, To: q.channel.Target(), Took: time.Since(began)}, err
}

// Mailers returns the names of the channels by which Mail can send, in their order.
func (n *Notifier) Mailers() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var all []string
	for _, c := range n.cfg.Channels {
		if c.Type == SMTP {
			all = append(all, c.Name)
		}
	}
	return all
}

// Mail sends a text with a file beside it by a channel of type smtp at once, past its
// queue and its limit. What is sent again has the same Message-ID. The error holds no
// credentials.
func (n *Notifier) Mail(ctx context.Context, channel, subject, text, name string, file []byte) error {
	n.mu.Lock()
	q := n.queues[channel]
	n.mu.Unlock()
	if q == nil {
		return ErrNoChannel
	}
	m, ok := q.sender.(*mailer)
	if !ok {
		return fmt.Errorf("%s is of type %s, and only those of type %s send mails", channel, q.channel.Type, SMTP)
	}
	return q.attempt(ctx, func(ctx context.Context) error {
		msg, err := m.letter(n.cfg.Node, subject, text, name, file)
		if err != nil {
			return err
		}
		return m.post(ctx, msg)
	})
}
