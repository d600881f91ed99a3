package retransmit

import (
	"hash/maphash"
	"net/netip"
	"sync"
	"sync/atomic"

	"sipward/sip"
)

// A Key names a transaction: the branch of the proxy's own Via, which must be a keyed
// hash that nobody outside can choose, and the method. ACK stands for its INVITE.
type Key struct {
	Branch [12]byte
	Method sip.Method
}

// transaction returns the key of the transaction that a message with this key belongs to.
func (k Key) transaction() Key {
	if k.Method == sip.MethodAck {
		k.Method = sip.MethodInvite
	}
	return k
}

// A Path is how a datagram gets to the UDP side.
type Path struct {
	Listener int
	Addr     netip.AddrPort
	Local    netip.Addr // the address of ours to send from; may be invalid
}

// A Class says how much of the Table a source may fill.
type Class uint8

const (
	// Stranger: together half of the Table, each source a 32nd.
	Stranger Class = iota
	// Known is a source in good standing: a quarter.
	Known
	// PBX has no share but the whole.
	PBX
)

// A Request is a request that crosses from one kind of transport to the other.
type Request struct {
	Key    Key
	Class  Class
	Source netip.Addr // who is charged: an IPv4 address or an IPv6 /64 is one source
	// Path and Message are those of a request that goes to the UDP side.
	Path    Path
	Message []byte // as it is sent; it is copied
	// Flow, of a request from the UDP side, is the connection that it goes on over, 0 if
	// there is none any more.
	Flow uint64
}

// Config is what a Table is made of. Send and TimedOut are called by Run's goroutine,
// one at a time; they must not wait, and what they are given is the Table's.
type Config struct {
	// Bytes is how much may be kept: the messages, and overhead for each transaction.
	Bytes int64
	// Send sends a message again.
	Send func(p Path, message []byte)
	// TimedOut is told of an INVITE that was not answered at all within 64*T1 (RFC 3261
	// §17.1.1.2); message is the request as it was sent.
	TimedOut func(p Path, message []byte)
}

// Overhead is what an entry counts for in bytes, beside its message.
const Overhead = 256

// A Table keeps what may have to be sent again. It is safe for use by any number of
// goroutines. A full one takes no new transactions; those that it has go on.
type Table struct {
	cfg    Config
	seed   maphash.Seed
	shards [shards]shard
	// success finds the INVITE that the ACK to its 2xx belongs to: it is a transaction
	// of its own.
	success successes
	wake    chan struct{} // that there is an entry again

	entries   atomic.Int64
	bytes     atomic.Int64
	strangers atomic.Int64
	// sources are bytes by a hash of the source. Those few that share a place share
	// what one may have.
	sources [sourcePlaces]atomic.Int64

	sent, replayed, absorbed, timedOut, refused atomic.Uint64

	pool, buffers sync.Pool // of entries and of buffers that are free
}

const (
	shards       = 16
	sourcePlaces = 1 << 12
)

type shard struct {
	mu      sync.Mutex
	entries map[Key]*entry
	wheel   wheel
	_       [64]byte
}

// New makes a Table. Nothing is sent again before Run.
func New(cfg Config) *Table {
	t := &Table{cfg: cfg, seed: maphash.MakeSeed(), wake: make(chan struct{}, 1)}
	for i := range t.shards {
		t.shards[i].entries = make(map[Key]*entry)
	}
	t.success.keys = make(map[uint64]Key)
	t.pool.New = func() any { return new(entry) }
	t.buffers.New = func() any { return new(buffer) }
	return t
}

func (t *Table) shard(k *Key) *shard { return &t.shards[k.Branch[0]%shards] }

// Stats is a snapshot for status and metrics.
type Stats struct {
	Entries int
	Bytes   int64 // of Config.Bytes
	// Sent counts repeats of requests and responses that the timers caused, Replayed
	// those that a repeat by the UDP side caused.
	Sent, Replayed uint64
	// Absorbed are repeats by the UDP side that did not go to the stream.
	Absorbed uint64
	// TimedOut are INVITEs that were never answered.
	TimedOut uint64
	// Refused are requests for which there was no room.
	Refused uint64
}

// Stats returns what the Table holds and has counted.
func (t *Table) Stats() Stats {
	return Stats{
		Entries: int(t.entries.Load()), Bytes: t.bytes.Load(),
		Sent: t.sent.Load(), Replayed: t.replayed.Load(), Absorbed: t.absorbed.Load(),
		TimedOut: t.timedOut.Load(), Refused: t.refused.Load(),
	}
}

// place returns where a source's bytes are counted.
func (t *Table) place(source netip.Addr) uint16 {
	b := source.As16()
	part := b[:]
	if source.Is6() {
		part = b[:8]
	}
	return uint16(maphash.Bytes(t.seed, part) % sourcePlaces)
}

// take charges n bytes to e's source, unless that would be more than its share.
func (t *Table) take(e *entry, n int64) bool {
	total, share := t.cfg.Bytes, t.cfg.Bytes
	switch e.class {
	case Stranger:
		share /= 32
	case Known:
		share /= 4
	}
	ok := t.bytes.Add(n) <= total // each is counted, so that give can take back all
	if e.class != PBX {
		ok = t.sources[e.place].Add(n) <= share && ok
	}
	if e.class == Stranger {
		ok = t.strangers.Add(n) <= total/2 && ok
	}
	if !ok {
		t.give(e, n)
	}
	return ok
}

// give takes back what take has charged.
func (t *Table) give(e *entry, n int64) {
	t.bytes.Add(-n)
	if e.class != PBX {
		t.sources[e.place].Add(-n)
	}
	if e.class == Stranger {
		t.strangers.Add(-n)
	}
}

// add makes the entry of a request, or returns nil if there is no room. The shard is
// locked.
func (t *Table) add(s *shard, r *Request) *entry {
	e := t.pool.Get().(*entry)
	e.key, e.class, e.place = r.Key, r.Class, t.place(r.Source)
	room := t.take(e, Overhead)
	if room && !t.keep(e, r.Message) {
		t.give(e, Overhead)
		room = false
	}
	if !room {
		t.pool.Put(e)
		t.refused.Add(1)
		return nil
	}
	s.entries[r.Key] = e
	if t.entries.Add(1) == 1 {
		select {
		case t.wake <- struct{}{}:
		default: // Run has yet to see that it was woken before
		}
	}
	return e
}

// remove forgets e. The shard is locked.
func (t *Table) remove(s *shard, e *entry) {
	t.drop(e)
	t.success.forget(e)
	s.wheel.remove(e)
	delete(s.entries, e.key)
	t.give(e, Overhead)
	t.entries.Add(-1)
	*e = entry{}
	t.pool.Put(e)
}

// keep makes message the one that e sends again, in place of the last. Without room
// there is none, and keep reports false.
func (t *Table) keep(e *entry, message []byte) bool {
	t.drop(e)
	if len(message) == 0 {
		return true
	}
	if !t.take(e, int64(len(message))) {
		return false
	}
	e.message = t.buffers.Get().(*buffer)
	e.message.b = append(e.message.b[:0], message...)
	return true
}

// drop forgets e's message.
func (t *Table) drop(e *entry) {
	if e.message == nil {
		return
	}
	t.give(e, int64(len(e.message.b)))
	if cap(e.message.b) <= maxPooled {
		t.buffers.Put(e.message)
	}
	e.message, e.again = nil, 0
}
