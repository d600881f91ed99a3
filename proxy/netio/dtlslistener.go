package netio

import (
	"bytes"
	"crypto/rand"
	"errors"
	"net/netip"
	"sync"
	"time"

	"github.com/pion/transport/v5/deadline"
)

// errReplaced: the other side has lost its association and begun anew.
var errReplaced = errors.New("netio: begun anew by the other side")

// dtlsKey is what an association is found by: nobody has more than one.
type dtlsKey struct {
	remote netip.AddrPort
	local  netip.Addr
}

// dtlsListener shares out the datagrams of one socket. Its maps hold no more than the
// caps on associations let in, and nobody is in them who has not returned a cookie.
type dtlsListener struct {
	d       *DTLS
	h       StreamHandler
	index   int // among d's
	addr    netip.AddrPort
	out     *Output
	cookies *cookies

	mu       sync.Mutex // the reader's, but for the end of associations
	bySource map[dtlsKey]*association
	byID     map[[cidLen]byte]*association
}

var _ DatagramHandler = (*dtlsListener)(nil)

func newDTLSListener(d *DTLS, h StreamHandler, index int, out *Output) *dtlsListener {
	return &dtlsListener{
		d: d, h: h, index: index, addr: d.udp.LocalAddr(index), out: out,
		cookies:  newCookies(time.Now()),
		bySource: make(map[dtlsKey]*association),
		byID:     make(map[[cidLen]byte]*association),
	}
}

// Datagrams implements DatagramHandler.
func (l *dtlsListener) Datagrams(pkts []Packet) {
	l.cookies.turn(time.Now())
	for i := range pkts {
		l.datagram(&pkts[i])
	}
}

func (l *dtlsListener) datagram(p *Packet) {
	k := &l.d.counters
	if len(p.Data) > maxRecord {
		k.oversize.Add(1)
		return
	}
	src := unzoned(p.Src)
	a := l.find(p, src)
	switch {
	case a != nil && (src == a.at() || l.accept(src)) && !opensAssociation(p.Data):
		a.take(p.Data, p.Src)
	case !opensAssociation(p.Data):
		k.strays.Add(1)
	default:
		l.hello(p, src, a)
	}
}

// find returns the association that a datagram is for, or nil.
func (l *dtlsListener) find(p *Packet, src netip.AddrPort) *association {
	l.mu.Lock()
	defer l.mu.Unlock()
	if id, ok := cidOf(p.Data); ok {
		return l.byID[id]
	}
	return l.bySource[dtlsKey{remote: src, local: p.Local}]
}

func (l *dtlsListener) accept(src netip.AddrPort) bool {
	ok := src.IsValid() && l.h.Accept(src, l.d.cfg.FirstListener+l.index)
	if !ok {
		l.d.conns.counters.refusedGate.Add(1)
	}
	return ok
}

// hello answers a ClientHello; old is the source's association, or nil.
func (l *dtlsListener) hello(p *Packet, src netip.AddrPort, old *association) {
	k := &l.d.counters
	h, ok := parseHello(p.Data)
	switch {
	case !ok:
		k.badHellos.Add(1)
	case old != nil && bytes.Equal(h.random, old.random[:]):
		old.take(h.record, p.Src) // repeated
	case !l.accept(src):
	case len(h.cookie) == 0 && h.message == 0:
		k.cookies.Add(1)
		b := h.appendVerify(l.out.Slot(l.index), l.cookies.make(&h, src, p.Local))
		l.out.Push(l.index, len(b), p.Src, p.Local)
	case h.message != 1 || !l.cookies.good(&h, src, p.Local):
		k.badCookies.Add(1)
	default:
		l.open(p, src, &h, old)
	}
}

// open begins an association with a client whose address is proven. While its new
// one has no place it keeps the old one.
func (l *dtlsListener) open(p *Packet, src netip.AddrPort, h *clientHello, old *association) {
	t := l.d.conns
	exempt, source := t.cfg.Exempt(src.Addr()), t.cfg.SourceKey(src.Addr())
	if old != nil && old.at() != src {
		old = nil // it has gone on elsewhere
	}
	gives := func() *Conn { // all are looked at: only for who may begin a handshake
		if old == nil && !exempt && t.limits.full(source) {
			old = l.silent(source)
		}
		if old == nil {
			return nil
		}
		return old.c
	}
	if !t.place(source, exempt, true, gives) {
		return
	}
	a := &association{
		l:        l,
		key:      dtlsKey{remote: src, local: p.Local},
		random:   [randomLen]byte(h.random),
		cookie:   bytes.Clone(h.cookie),
		delta:    h.sequence - 1, // pion/dtls has numbered its own HelloVerifyRequest 0
		inbox:    make(chan inboxItem, inboxSize),
		deadline: deadline.New(),
		closed:   make(chan struct{}),
		shaken:   make(chan struct{}),
	}
	c, err := l.newConn(a, p.Src)
	if err != nil {
		t.limits.release(source, exempt)
		return
	}
	c.remote, c.local, c.source, c.exempt = src, netip.AddrPortFrom(p.Local, l.addr.Port()), source, exempt
	a.takeHello(h, p.Src)
	l.enter(a)
	if old != nil {
		l.d.counters.replaced.Add(1)
		old.c.Close(errReplaced)
	}
	if !t.start(c) {
		l.forget(a)
		t.limits.release(source, exempt)
	}
}

// staleAfter is after what silence an association may make room for another one of its source,
// which has as many as it may have: unlike connections they end without a word when a phone or
// its router loses its power. Phones and PBXes that look after a binding speak more often.
const staleAfter = 5 * time.Minute

// silent returns the association of source that has been silent for longest, and for long
// enough; nil: there is none.
func (l *dtlsListener) silent(source netip.Addr) (found *association) {
	l.mu.Lock()
	defer l.mu.Unlock()
	last := time.Now().UnixNano() - l.d.stale.Load()
	for _, a := range l.byID {
		if at := a.heard.Load(); a.established.Load() && a.c.source == source && at <= last {
			found, last = a, at
		}
	}
	return found
}

// enter makes a findable, with a connection ID that no other one has.
func (l *dtlsListener) enter(a *association) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for taken := true; taken; {
		_, _ = rand.Read(a.cid[:]) // never fails
		_, taken = l.byID[a.cid]
	}
	l.byID[a.cid] = a
	l.bySource[a.key] = a
}

func (l *dtlsListener) forget(a *association) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.byID, a.cid)
	if l.bySource[a.key] == a { // nor has it been replaced
		delete(l.bySource, a.key)
	}
}
