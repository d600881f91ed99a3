package report

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"sipward/policy"
	"sipward/policy/event"
)

// A segment is one minute's rows as bytes: a table of strings, then the rows, whose
// texts and addresses are numbers of strings. Packed like this a million rows are read
// within a second, which SQLite's own rows are not. All numbers are uvarints:
//
//	format · strings: n, n × (length, bytes) · rows: n, n × row
//	row:    protocol, direction, verdict, reason, source, account, method, count, first, last,
//	        samples: n, n × (second, transport, port, status, detail)
//
// A source is 4 bytes, or 16 and the length of the prefix, or none. Reasons are words, since their numbers are not
// kept from one version to the next.
const segmentFormat = 1

var errSegment = errors.New("report: a minute of the journal cannot be understood")

type packer struct {
	numbers map[string]uint64
	strings [][]byte
	rows    []byte
}

func (p *packer) word(s string) {
	n, ok := p.numbers[s]
	if !ok {
		n = uint64(len(p.strings))
		p.numbers[s] = n
		p.strings = append(p.strings, []byte(s))
	}
	p.number(n)
}

func (p *packer) source(s netip.Prefix) {
	b := s.Addr().AsSlice()
	if len(b) == 16 {
		b = append(b, byte(s.Bits()))
	}
	p.word(string(b))
}

func (p *packer) number(n uint64) { p.rows = binary.AppendUvarint(p.rows, n) }

// pack makes a segment of a minute.
func (m *minute) pack() []byte {
	p := packer{numbers: make(map[string]uint64)}
	for _, r := range m.rows {
		k := &r.key
		p.number(uint64(k.protocol))
		p.number(uint64(k.direction))
		p.number(uint64(k.verdict))
		p.word(k.reason.String())
		p.source(k.source)
		p.word(k.account)
		p.word(k.method)
		p.number(r.count)
		p.number(uint64(r.first))
		p.number(uint64(r.last))
		p.number(uint64(len(r.samples)))
		for _, s := range r.samples {
			p.number(uint64(s.second))
			p.number(uint64(s.transport))
			p.number(uint64(s.port))
			p.number(uint64(s.status))
			p.word(s.detail)
		}
	}
	out := binary.AppendUvarint(nil, segmentFormat)
	out = binary.AppendUvarint(out, uint64(len(p.strings)))
	for _, s := range p.strings {
		out = binary.AppendUvarint(out, uint64(len(s)))
		out = append(out, s...)
	}
	out = binary.AppendUvarint(out, uint64(len(m.rows)))
	return append(out, p.rows...)
}

// unpacker reads a segment. Its slices point into the segment's bytes.
type unpacker struct {
	rest    []byte
	bad     bool
	strings [][]byte
	rows    uint64
}

// packedRow is a row as it stands in a segment; source, account, method, reason and
// details are numbers of strings.
type packedRow struct {
	protocol                        event.Protocol
	direction                       event.Direction
	verdict                         policy.Verdict
	reason, source, account, method uint64
	count                           uint64
	first, last                     uint8
	samples                         []packedSample // valid until the next row
}

type packedSample struct {
	second       uint8
	transport    policy.Transport
	port, status uint16
	detail       uint64
}

func (u *unpacker) number() uint64 {
	n, size := binary.Uvarint(u.rest)
	if size <= 0 {
		u.bad, u.rest = true, nil
		return 0
	}
	u.rest = u.rest[size:]
	return n
}

// small reads a number that must not exceed a limit.
func (u *unpacker) small(limit uint64) uint64 {
	n := u.number()
	if n > limit {
		u.bad = true
		return 0
	}
	return n
}

// word reads the number of a string.
func (u *unpacker) word() uint64 {
	n := u.number()
	if n >= uint64(len(u.strings)) {
		u.bad = true
		return 0
	}
	return n
}

// begin reads the strings of a segment; u is used again.
func (u *unpacker) begin(data []byte) error {
	*u = unpacker{rest: data, strings: u.strings[:0]}
	if u.number() != segmentFormat {
		return errSegment
	}
	for range u.small(uint64(len(u.rest))) {
		n := u.small(uint64(len(u.rest)))
		if u.bad {
			return errSegment
		}
		u.strings = append(u.strings, u.rest[:n])
		u.rest = u.rest[n:]
	}
	if u.rows = u.small(uint64(len(u.rest))); u.bad || u.rows > 0 && len(u.strings) == 0 {
		return errSegment
	}
	return nil
}

// next reads a row. It returns false after the last, and when the segment is not whole:
// then end says so.
func (u *unpacker) next(r *packedRow) bool {
	if u.rows == 0 || u.bad {
		return false
	}
	u.rows--
	r.protocol = event.Protocol(u.small(255))
	r.direction = event.Direction(u.small(255))
	r.verdict = policy.Verdict(u.small(255))
	r.reason, r.source, r.account, r.method = u.word(), u.word(), u.word(), u.word()
	r.count = u.number()
	r.first, r.last = uint8(u.small(59)), uint8(u.small(59))
	r.samples = r.samples[:0]
	for range u.small(rowSamples) {
		r.samples = append(r.samples, packedSample{
			second: uint8(u.small(59)), transport: policy.Transport(u.small(255)),
			port: uint16(u.small(65535)), status: uint16(u.small(65535)), detail: u.word(),
		})
	}
	return !u.bad
}

func (u *unpacker) end() error {
	if u.bad || len(u.rest) > 0 {
		return errSegment
	}
	return nil
}

// unpackSource reads a source of a segment; false: it is none.
func unpackSource(b []byte) (netip.Prefix, bool) {
	switch {
	case len(b) == 4:
		return netip.PrefixFrom(netip.AddrFrom4([4]byte(b)), 32), true
	case len(b) == 17 && b[16] <= 128:
		return netip.PrefixFrom(netip.AddrFrom16([16]byte(b)), int(b[16])), true
	}
	return netip.Prefix{}, false
}
