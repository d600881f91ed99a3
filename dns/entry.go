package dns

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	mdns "github.com/miekg/dns"

	"sipward/policy"
)

// entry is an answer in the form in which it is given. It is not changed once others can
// see it, but for what is atomic.
type entry struct {
	key   uint64 // in the cache
	name  string // in wire form and lower case
	qtype uint16
	full  packed
	// small is what fits over TCP; the same as full as a rule.
	small   packed
	limit   Protection // that it was made under
	born    int64      // Unix time in ns
	expires int64
	// failed is when no upstream could renew it last; 0: none has.
	failed atomic.Int64
}

// staleTTL is what is told of answers that are out of date (RFC 8767 §5), in seconds.
const staleTTL = 30

// ttl is how long the answer may be kept by the client, in seconds.
func (e *entry) ttl(now int64) uint32 {
	left := e.expires - now
	if left <= 0 {
		if e.expires > e.born {
			return staleTTL
		}
		return 0
	}
	return uint32((left + int64(time.Second) - 1) / int64(time.Second))
}

// appendUDP writes the answer for a client over UDP; if it does not fit, that it is to ask
// over TCP.
func (e *entry) appendUDP(dst []byte, q *asker, now int64) []byte {
	size := len(e.full.wire)
	if q.edns {
		size += optSize
	}
	if size > limitUDP(q.qtype, int(q.size), e.limit) {
		return q.appendBare(dst, flagTC, int(e.full.wire[3]&rcodes))
	}
	return e.full.append(dst, q, e.ttl(now))
}

// appendTCP writes the answer for a client over TCP, without its length.
func (e *entry) appendTCP(dst []byte, q *asker, now int64) []byte {
	return e.small.append(dst, q, e.ttl(now))
}

// cost is about the memory that an entry takes in the cache, in bytes.
func (e *entry) cost() int {
	n := 320 + len(e.name) + cap(e.full.wire) + 2*cap(e.full.ttls)
	if len(e.small.wire) != len(e.full.wire) {
		n += cap(e.small.wire) + 2*cap(e.small.ttls)
	}
	return n
}

// answer is what we have to say to a question.
type answer struct {
	rcode int
	chain []mdns.RR // CNAME records, from the name that was asked for
	set   []mdns.RR // what was asked for
	soa   mdns.RR   // of a negative answer; nil: none
	ttl   uint32    // in seconds
}

var (
	errChain = errors.New("the chain of aliases alone is too large")
	errLarge = errors.New("the answer is too large")
)

// makeEntry writes an answer. reason is set when some of it had to be left out.
func makeEntry(name string, qtype uint16, a *answer, p Protection, now int64) (e *entry, reason policy.Reason, err error) {
	e = &entry{name: name, qtype: qtype, limit: p, born: now, expires: now + int64(a.ttl)*int64(time.Second)}
	if e.full, err = pack(name, qtype, a); err != nil {
		return nil, 0, err
	}
	e.small = e.full
	limit := limitTCP(qtype, p) - optSize
	if len(e.full.wire) <= limit {
		return e, 0, nil
	}
	if !holdsAddresses(qtype) {
		return nil, 0, fmt.Errorf("%w: it has %d bytes, and may have %d", errLarge, len(e.full.wire), limit)
	}
	each := 16 // bytes of a record whose owner is a pointer
	if qtype == mdns.TypeAAAA {
		each = 28
	}
	cut := *a
	for len(e.small.wire) > limit {
		over := (len(e.small.wire) - limit + each - 1) / each
		// Without addresses a client would take it for a name that has none.
		if cut.soa = nil; len(cut.set) <= over {
			return nil, 0, errChain
		}
		cut.set = cut.set[:len(cut.set)-over]
		if e.small, err = pack(name, qtype, &cut); err != nil {
			return nil, 0, err
		}
	}
	return e, policy.ReasonDNSTrimmed, nil
}

// pack writes a message.
func pack(name string, qtype uint16, a *answer) (packed, error) {
	m := mdns.Msg{Compress: true}
	m.Response, m.RecursionAvailable, m.Rcode = true, true, a.rcode
	m.Question = []mdns.Question{{Name: nameText(name), Qtype: qtype, Qclass: mdns.ClassINET}}
	m.Answer = append(append(m.Answer, a.chain...), a.set...)
	if a.soa != nil {
		m.Ns = []mdns.RR{a.soa}
	}
	wire, err := m.Pack()
	if err != nil {
		return packed{}, fmt.Errorf("write the answer: %w", err)
	}
	p := packed{wire: wire, ttls: make([]uint16, 0, len(m.Answer)+len(m.Ns))}
	end, err := survey(wire, func(rr int) { p.ttls = append(p.ttls, uint16(rr+4)) })
	if err != nil || end != len(wire) {
		return packed{}, fmt.Errorf("read what was written: %w", err)
	}
	return p, nil
}

// nameText turns a name from wire form into the form of zone files.
func nameText(wire string) string {
	text, _, err := mdns.UnpackDomainName([]byte(wire), 0)
	if err != nil {
		return "." // it was read from a question, so it can be read
	}
	return text
}

// survey walks over a message without reading names or values: it returns where the
// message ends, and calls each, if not nil, with the place of every record's type.
func survey(m []byte, each func(at int)) (end int, err error) {
	if len(m) < headerSize {
		return 0, errShort
	}
	at := headerSize
	for range binary.BigEndian.Uint16(m[4:]) {
		if at, err = skipName(m, at); err != nil {
			return 0, err
		}
		at += 4
	}
	records := 0
	for i := 6; i < headerSize; i += 2 {
		records += int(binary.BigEndian.Uint16(m[i:]))
	}
	for range records {
		if at, err = skipName(m, at); err != nil {
			return 0, err
		}
		if at+10 > len(m) {
			return 0, errShort
		}
		if each != nil {
			each(at)
		}
		at += 10 + int(binary.BigEndian.Uint16(m[at+8:]))
	}
	if at > len(m) {
		return 0, errShort
	}
	return at, nil
}

var (
	errShort = errors.New("the message ends too early")
	errName  = errors.New("a name cannot be read")
)

// skipName returns where a name ends. A pointer must point back (RFC 1035 §4.1.4).
func skipName(m []byte, at int) (int, error) {
	for from := at; at < len(m); {
		switch n := int(m[at]); {
		case n == 0:
			return at + 1, nil
		case n >= 0xc0:
			if at+2 > len(m) {
				return 0, errShort
			}
			if to := int(binary.BigEndian.Uint16(m[at:])) & 0x3fff; to >= from || to < headerSize {
				return 0, errName
			}
			return at + 2, nil
		case n > 63:
			return 0, errName
		default:
			at += 1 + n
		}
	}
	return 0, errShort
}
