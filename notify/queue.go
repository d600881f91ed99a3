package notify

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"reflect"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// queue sends what waits for one channel.
type queue struct {
	channel Channel
	sender  sender
	limit   *rate.Limiter
	cfg     *Config
	wake    chan struct{}
	ended   chan struct{} // closed when run has ended

	mu     sync.Mutex // guards what follows
	spool  spool
	status ChannelStatus
}

// sender hands a delivery over to the other side. An error that is errRefused will not
// go away; after any other it is tried again.
type sender interface {
	send(ctx context.Context, d *delivery) error
}

// errRefused: the other side does not want this delivery, now or later.
var errRefused = errors.New("refused")

// again is an error with a time before which it makes no sense to try again.
type again struct {
	error
	after time.Duration
}

func (e *again) Unwrap() error { return e.error }

const (
	maxBatch  = 20              // events in one delivery
	burst     = 10              // deliveries that may follow each other at once
	firstWait = time.Second     // before the second attempt; it doubles with each
	maxWait   = 5 * time.Minute // before any attempt
	grace     = 2 * time.Second // for an attempt when sipward ends
)

func newQueue(c Channel, s *Settings, cfg *Config) (*queue, error) {
	sender, err := c.sender(cfg)
	if err != nil {
		return nil, err
	}
	q := &queue{
		channel: c, sender: sender, cfg: cfg,
		limit: rate.NewLimiter(rate.Limit(float64(c.PerHour)/3600), min(c.PerHour, burst)),
		wake:  make(chan struct{}, 1), ended: make(chan struct{}),
		spool: spool{dir: filepath.Join(cfg.Dir, c.Name), size: s.SpoolSize, keep: s.Keep},
	}
	q.status = ChannelStatus{Name: c.Name, Type: c.Type, To: c.Target()}
	return q, nil
}

// same says whether a channel of a new configuration is this one.
func (q *queue) same(c Channel, s *Settings) bool {
	return reflect.DeepEqual(q.channel, c) && q.spool.size == s.SpoolSize && q.spool.keep == s.Keep
}

// open reads what the last queue of that name has left.
func (q *queue) open() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := q.spool.open(time.Now()); err != nil {
		q.spool.err = err
		q.cfg.Log.Warn("what waits to be told cannot be read or stored", "channel", q.channel.Name, "err", err)
	}
	if len(q.spool.waiting) > 0 {
		q.rouse()
	}
}

func (q *queue) put(ev Event) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.spool.put(ev, time.Now())
	q.rouse()
}

func (q *queue) rouse() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// run sends until ctx ends. It opens the spool when last is closed; nil: it is open.
func (q *queue) run(ctx context.Context, last <-chan struct{}) error {
	defer close(q.ended)
	if last != nil {
		<-last // it was told to end, and may still be sending
		q.open()
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-q.wake:
		}
		for q.waits() {
			if q.limit.Wait(ctx) != nil || !q.deliver(ctx) {
				return nil
			}
		}
	}
}

func (q *queue) waits() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.spool.waiting) > 0
}

// deliver sends once what waits by then, however often it takes to try. It reports
// false when ctx has ended.
func (q *queue) deliver(ctx context.Context) bool {
	most := maxBatch
	for attempt := 0; ; attempt++ {
		q.mu.Lock()
		d := &delivery{Events: q.spool.take(most, time.Now()), Lost: q.spool.lost}
		q.status.Next = time.Time{}
		q.mu.Unlock()
		if len(d.Events) == 0 {
			return true
		}
		err := q.attempt(ctx, func(ctx context.Context) error { return q.sender.send(ctx, d) })
		if ctx.Err() != nil && err != nil {
			return false
		}
		refused := errors.Is(err, errRefused)
		if refused && len(d.Events) > 1 {
			q.settle(d, err, false)
			most = 1 // one of them may be the reason: the others are not to suffer
			continue
		}
		if q.settle(d, err, err == nil || refused) {
			return true
		}
		wait := backoff(attempt, err)
		q.mu.Lock()
		q.status.Next = time.Now().Add(wait)
		q.mu.Unlock()
		select {
		case <-ctx.Done():
			return false
		case <-time.After(wait):
		}
	}
}

// backoff returns how long to wait after an attempt: twice as long after each, half of
// it at random, so that many do not come back at once.
func backoff(attempt int, err error) time.Duration {
	wait := maxWait
	if attempt < 16 {
		wait = min(firstWait<<attempt, maxWait)
	}
	wait = wait/2 + rand.N(wait/2)
	var later *again
	if errors.As(err, &later) {
		wait = max(wait, min(later.after, maxWait))
	}
	return wait
}

// attempt sends; when ctx ends it is given a little time to come to its end.
func (q *queue) attempt(ctx context.Context, send func(context.Context) error) error {
	long, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(grace, cancel) })()
	return q.try(long, send)
}

// try sends within the channel's time. Its error holds no credentials.
func (q *queue) try(ctx context.Context, send func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, q.channel.Timeout)
	defer cancel()
	err := send(ctx)
	if err == nil {
		return nil
	}
	if ctx.Err() == context.DeadlineExceeded {
		err = fmt.Errorf("no success within %s: %w", span(q.channel.Timeout), err)
	}
	return q.channel.hide(err)
}

// settle notes what became of a delivery, and reports whether it is done with.
func (q *queue) settle(d *delivery, err error, done bool) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	st, now := &q.status, time.Now()
	switch {
	case err == nil:
		q.spool.lost -= d.Lost
		st.Delivered += uint64(len(d.Events))
		st.Last = now
		if st.Error != "" {
			q.cfg.Log.Info("notifications are sent again", "channel", st.Name)
		}
		st.Error, st.Since = "", time.Time{}
	default:
		st.Failures++
		if st.Error == "" {
			st.Since = now
			q.cfg.Log.Warn("a notification cannot be sent", "channel", st.Name, "err", err.Error())
		}
		st.Error = err.Error()
		if done {
			st.Refused++
			q.cfg.Log.Error("a notification was refused for good", "channel", st.Name, "event", d.Events[0].ID, "err", err.Error())
		}
	}
	if done {
		q.spool.done()
	} else {
		q.spool.release()
	}
	return done
}
