package report

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"time"

	"sipward/policy/dbfile"
)

// Mailer sends mails.
type Mailer interface {
	// Mail sends a text with a file beside it, whose name says what it is, by a channel. It
	// returns when the other side has taken it.
	Mail(ctx context.Context, channel, subject, text, name string, file []byte) error
}

const (
	// tooLate is how long after its time a report is still sent.
	tooLate = 24 * time.Hour
	// settle is how long what happened before the time of a report may take to be counted.
	settle = time.Second
	// lookEvery is how often the clock on the wall is looked at: it can be set, and sleep.
	lookEvery = time.Minute

	firstMailRetry = time.Minute
	lastMailRetry  = time.Hour
)

// Scheduler mails reports at their times. Each is sent once; what the Mailer does not take
// is tried again, with more and more time between, until it is a day late. A time that
// passed while no Scheduler ran is made up for by the same rule, the last one only.
type Scheduler struct {
	journal *Journal
	mailer  Mailer
	changed chan struct{}

	mu    sync.Mutex // guards what follows
	plans []*plan
}

// plan is a schedule and how far it has come.
type plan struct {
	Schedule
	done     time.Time // up to here it has been dealt with; zero: not known yet
	due      time.Time // what is being sent; zero: nothing
	failures int
	again    time.Time // when to try again

	mu     sync.Mutex // guards what follows; Run alone uses the rest
	status ScheduleStatus
}

// note changes what is told of a plan.
func (p *plan) note(f func(*ScheduleStatus)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f(&p.status)
}

// NewScheduler makes a Scheduler.
func NewScheduler(j *Journal, m Mailer, schedules []Schedule) *Scheduler {
	s := &Scheduler{journal: j, mailer: m, changed: make(chan struct{}, 1)}
	s.Reload(schedules)
	return s
}

// Reload puts other schedules in force.
func (s *Scheduler) Reload(schedules []Schedule) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.plans
	s.plans = nil
	for _, sch := range schedules {
		p := &plan{Schedule: sch}
		p.status = ScheduleStatus{Every: sch.period(), At: sch.clock(), Channel: sch.Channel, By: sch.By}
		for _, o := range old {
			if o.name() == p.name() {
				p = o
			}
		}
		s.plans = append(s.plans, p)
	}
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// Status says how the schedules have done, in their order.
func (s *Scheduler) Status(now time.Time) []ScheduleStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := []ScheduleStatus{}
	for _, p := range s.plans {
		p.mu.Lock()
		st := p.status
		p.mu.Unlock()
		st.Next = p.next(now)
		all = append(all, st)
	}
	return all
}

// Run works until ctx ends.
func (s *Scheduler) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		s.mu.Lock()
		plans := s.plans
		s.mu.Unlock()
		wait := lookEvery
		for _, p := range plans {
			wait = min(wait, max(0, time.Until(s.step(ctx, p, time.Now()))))
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-s.changed:
		case <-t.C:
		}
		t.Stop()
	}
	return nil
}

// step does what is to be done for a plan now, and returns when there is more. Run alone
// calls it.
func (s *Scheduler) step(ctx context.Context, p *plan, now time.Time) time.Time {
	if p.done.IsZero() {
		if err := s.recall(p, now); err != nil {
			s.journal.cfg.Log.Warn("when a report was mailed last cannot be read", "channel", p.Channel, "err", err)
			p.note(func(st *ScheduleStatus) { st.Failures, st.Error = st.Failures+1, err.Error() })
			return now.Add(lookEvery)
		}
	}
	if p.done.After(p.next(now)) { // by a clock that was wrong: nothing is to wait until it is so late again
		p.done = now
		s.remember(p)
	}
	if p.due.IsZero() {
		next := p.next(p.done.In(now.Location()))
		for ; !next.Add(settle).After(now); next = p.next(next) {
			p.due, p.failures, p.again = next, 0, now
		}
		if p.due.IsZero() {
			return next.Add(settle)
		}
	}
	log := s.journal.cfg.Log.With("channel", p.Channel, "report", p.subject(s.journal.cfg.Node, p.due))
	switch {
	case now.Sub(p.due) >= tooLate:
		log.Error("a report was not mailed within a day and is given up")
		p.note(func(st *ScheduleStatus) { st.GivenUp, st.Due, st.Again = st.GivenUp+1, time.Time{}, time.Time{} })
	case now.Before(p.again):
		return p.again
	default:
		if err := s.send(ctx, p); err != nil {
			if ctx.Err() != nil {
				return now
			}
			wait := lastMailRetry
			if p.failures < 6 {
				wait = firstMailRetry << p.failures
			}
			p.failures++
			p.again = now.Add(wait)
			p.note(func(st *ScheduleStatus) {
				st.Failures, st.Error, st.Due, st.Again = st.Failures+1, err.Error(), p.due, p.again
			})
			log.Warn("a report cannot be mailed", "err", err, "again", wait)
			return p.again
		}
		log.Info("report mailed")
		p.note(func(st *ScheduleStatus) {
			st.Mailed, st.Last, st.Error, st.Due, st.Again = st.Mailed+1, time.Now(), "", time.Time{}, time.Time{}
		})
	}
	p.done, p.due = p.due, time.Time{}
	s.remember(p)
	return now
}

// send makes the report of a plan and mails it.
func (s *Scheduler) send(ctx context.Context, p *plan) error {
	return s.mail(ctx, p.Channel, p.subject(s.journal.cfg.Node, p.due), p.query(p.due))
}

// Mail makes a report and mails it at once, once. It returns the mail's subject.
func (s *Scheduler) Mail(ctx context.Context, channel string, q *Query) (subject string, err error) {
	const minute = "2006-01-02 15:04"
	subject = fmt.Sprintf("[sipward %s] report from %s to %s", s.journal.cfg.Node, q.From.Format(minute), q.To.Format(minute))
	return subject, s.mail(ctx, channel, subject, q)
}

func (s *Scheduler) mail(ctx context.Context, channel, subject string, q *Query) error {
	r, err := s.journal.Ask(ctx, q)
	if err != nil {
		return err
	}
	var text, page bytes.Buffer
	if err := errors.Join(r.Render(&text, FormatTable), r.Render(&page, FormatHTML)); err != nil {
		return err
	}
	return s.mailer.Mail(ctx, channel, subject, text.String(), "sipward-"+q.To.Format(time.DateOnly)+".html", page.Bytes())
}

// recall finds out how far a plan has come. A new one begins now.
func (s *Scheduler) recall(p *plan, now time.Time) error {
	done, mailed, err := s.journal.scheduled(p.name())
	if err != nil {
		return err
	}
	p.note(func(st *ScheduleStatus) { st.Last, st.Error = mailed, "" })
	if p.done = done; done.IsZero() {
		p.done = now
		s.remember(p)
	}
	return nil
}

func (s *Scheduler) remember(p *plan) {
	p.mu.Lock()
	mailed := p.status.Last
	p.mu.Unlock()
	if err := s.journal.setScheduled(p.name(), p.done, mailed); err != nil {
		s.journal.cfg.Log.Warn("that a report was mailed cannot be stored; after a restart it may be mailed again", "channel", p.Channel, "err", err)
	}
}

// scheduled returns up to when a schedule has been dealt with (zero: it is new), and when a
// report of it was mailed last (zero: none was).
func (j *Journal) scheduled(name string) (done, mailed time.Time, err error) {
	db := j.db.Load()
	if db == nil {
		return done, mailed, errors.New("the journal cannot be opened")
	}
	var d, m int64
	err = db.QueryRow(`SELECT done, mailed FROM schedules WHERE name = ?`, name).Scan(&d, &m)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return done, mailed, nil
	case err != nil:
		return done, mailed, fmt.Errorf("read the journal: %w", err)
	}
	if m != 0 {
		mailed = time.Unix(m, 0)
	}
	return time.Unix(d, 0), mailed, nil
}

// setScheduled remembers that a schedule has been dealt with up to a time, and when a report
// of it was mailed last.
func (j *Journal) setScheduled(name string, done, mailed time.Time) error {
	last := int64(0)
	if !mailed.IsZero() {
		last = mailed.Unix()
	}
	j.writing.Lock()
	defer j.writing.Unlock()
	err := j.tryOpen()
	if err == nil {
		err = dbfile.Transact(j.db.Load(), func(b *dbfile.Batch) error {
			return b.Exec(`INSERT OR REPLACE INTO schedules (name, done, mailed) VALUES (?, ?, ?)`, name, done.Unix(), last)
		})
	}
	if err != nil {
		return fmt.Errorf("write the journal: %w", err)
	}
	return nil
}
