package dns

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	mdns "github.com/miekg/dns"

	"sipward/policy"
)

// question is what an upstream is asked.
type question struct {
	name  string // in wire form and lower case
	text  string // as in zone files
	qtype uint16
}

// upstream is a resolver, what is known of it, and its open connections.
type upstream struct {
	Upstream
	streams streams
	asked   atomic.Uint64
	failed  atomic.Uint64
	foreign atomic.Uint64 // replies that answered no question

	mu      sync.Mutex
	fails   int // in a row
	since   int64
	retryAt int64 // it counts as down until then
	why     string
}

// The time that an upstream is passed over after it has failed, doubled each time.
const (
	firstPause = time.Second
	lastPause  = 30 * time.Second
)

// good takes note of a reply.
func (u *upstream) good(now int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.fails > 0 {
		u.fails, u.since, u.retryAt, u.why = 0, now, 0, ""
	}
}

// bad takes note of a failure to get one.
func (u *upstream) bad(now int64, err error) {
	u.failed.Add(1)
	u.mu.Lock()
	defer u.mu.Unlock()
	if now < u.retryAt {
		return // one of many that failed together
	}
	if u.fails == 0 {
		u.since = now
	}
	u.why = err.Error()
	u.retryAt = now + int64(min(firstPause<<min(u.fails, 10), lastPause))
	u.fails++
}

// up says whether an upstream is worth asking first. When its pause is over one question
// tries it; the others wait for how that one fares.
func (u *upstream) up(now int64) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.fails == 0 {
		return true
	}
	if now < u.retryAt {
		return false
	}
	u.retryAt = now + int64(firstPause)
	return true
}

// order returns the upstreams as they are to be asked.
func order(all []*upstream, now int64) []*upstream {
	sorted := make([]*upstream, 0, len(all))
	var down []*upstream
	for _, u := range all {
		if u.up(now) {
			sorted = append(sorted, u)
		} else {
			down = append(down, u)
		}
	}
	return append(sorted, down...)
}

// maxRounds is how often each upstream is asked one question.
const maxRounds = 3

// ask asks the upstreams until one answers or ctx ends. chain errors are final: another
// upstream would say the same.
func (s *Server) ask(ctx context.Context, q *question, set *live) (a *answer, err error) {
	edns := true
	list := order(set.upstreams, time.Now().UnixNano())
	for range maxRounds {
		refused := 0
		for _, u := range list {
			if ctx.Err() != nil {
				return nil, orElse(err, ctx.Err())
			}
			if a, err = s.askOne(ctx, u, q, set, edns); errors.Is(err, errNoEDNS) && edns {
				edns = false
				a, err = s.askOne(ctx, u, q, set, edns)
			}
			switch {
			case err == nil:
				u.good(time.Now().UnixNano())
				return a, nil
			case errors.Is(err, errFailed), errors.Is(err, errNoEDNS):
				u.good(time.Now().UnixNano()) // it lives
				refused++
			case errors.Is(err, errLoop), errors.Is(err, errBadName), errors.Is(err, errTrailing):
				return nil, err
			default:
				u.bad(time.Now().UnixNano(), err)
			}
		}
		if refused == len(list) {
			break
		}
	}
	return nil, err
}

func orElse(err, other error) error {
	if err != nil {
		return err
	}
	return other
}

// askOne asks one upstream, within the time that one may take.
func (s *Server) askOne(ctx context.Context, u *upstream, q *question, set *live, edns bool) (*answer, error) {
	ctx, cancel := context.WithTimeout(ctx, set.Try)
	defer cancel()
	u.asked.Add(1)
	msg := newMessage(q, set.Protection != Off, edns)
	if u.Transport == policy.UDP {
		reply, done, err := s.exchangeUDP(ctx, u, msg)
		if err == nil {
			defer done()
			var a *answer
			if a, err = read(q, reply, &set.Settings); err == nil {
				return a, nil
			}
		}
		if !errors.Is(err, errCut) && !errors.Is(err, errSpelling) {
			return nil, err
		}
		msg = newMessage(q, false, edns)
	}
	reply, err := s.exchangeStream(ctx, u, msg)
	if err != nil {
		return nil, err
	}
	return read(q, reply, &set.Settings)
}

// newMessage writes a question with a random ID and, if asked for, a name in random case
// (draft-vixie-dnsext-dns0x20).
func newMessage(q *question, mixed, edns bool) []byte {
	var r [2 + maxName/8 + 1]byte
	rand.Read(r[:]) //nolint:errcheck // it never fails, it ends the process
	m := make([]byte, 0, headerSize+len(q.name)+4+optSize)
	m = append(m, r[0], r[1], flagRD>>8, 0, 0, 1, 0, 0, 0, 0, 0, 0)
	m = append(m, q.name...)
	if mixed {
		for i, c := range []byte(q.name) {
			if 'a' <= c && c <= 'z' && r[2+i/8]>>(i%8)&1 != 0 {
				m[headerSize+i] = c &^ 0x20
			}
		}
	}
	m = binary.BigEndian.AppendUint16(m, q.qtype)
	m = binary.BigEndian.AppendUint16(m, mdns.ClassINET)
	if edns {
		m[11] = 1
		m = append(m, 0, 0, byte(mdns.TypeOPT), maxUDP>>8, maxUDP&0xff, 0, 0, 0, 0, 0, 0)
	}
	return m
}
