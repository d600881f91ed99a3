package dns

import (
	"encoding/binary"

	mdns "github.com/miekg/dns"
)

const (
	headerSize = 12
	maxName    = 255 // RFC 1035 §2.3.4, in wire form
	optSize    = 11  // of an OPT record without options

	flagQR = 1 << 15
	flagTC = 1 << 9
	flagRD = 1 << 8
	flagRA = 1 << 7
	flagCD = 1 << 4
	opcode = 0xf << 11
	rcodes = 0xf
)

// query is what a client asks, taken apart.
type query struct {
	asker
	lower [maxName]byte // the name in lower case, in wire form
}

// asker is what is needed to answer.
type asker struct {
	id     uint16
	flags  uint16 // those that go back: opcode, RD and CD
	qtype  uint16
	qclass uint16
	size   uint16 // of the largest UDP answer that it takes
	edns   bool
	asked  bool // the question could be read
	length uint8
	spelt  [maxName]byte // the name as it was written, in wire form
}

func (q *query) name() []byte { return q.lower[:q.length] }

// fault is what is wrong with a query: an rcode, 0 for nothing, or silent.
type fault int

// silent says that it gets no answer: it is none, or one cannot tell whom to answer.
const silent fault = -1

// parse reads a query strictly: one question, and nothing else but an OPT record. It
// does not allocate.
func (q *query) parse(b []byte) fault {
	if len(b) < headerSize {
		return silent
	}
	flags := binary.BigEndian.Uint16(b[2:])
	if flags&flagQR != 0 {
		return silent // two servers would answer each other for ever
	}
	q.id, q.flags = binary.BigEndian.Uint16(b), flags&(opcode|flagRD|flagCD)
	q.size, q.edns, q.asked, q.length = minUDP, false, false, 0
	if flags&opcode != 0 {
		return mdns.RcodeNotImplemented
	}
	questions, additional := binary.BigEndian.Uint16(b[4:]), binary.BigEndian.Uint16(b[10:])
	if questions != 1 || binary.BigEndian.Uint32(b[6:]) != 0 || additional > 1 {
		return mdns.RcodeFormatError
	}
	at := q.readName(b)
	if at < 0 || len(b) < at+4 {
		q.length = 0
		return mdns.RcodeFormatError
	}
	q.qtype, q.qclass = binary.BigEndian.Uint16(b[at:]), binary.BigEndian.Uint16(b[at+2:])
	q.asked = true
	if b = b[at+4:]; additional == 1 {
		var f fault
		if b, f = q.readOPT(b); f != 0 {
			return f
		}
	}
	if len(b) != 0 {
		return mdns.RcodeFormatError
	}
	return q.refused()
}

// readName reads the name in the question, which is never compressed, and returns where
// it ends.
func (q *query) readName(b []byte) int {
	from := headerSize
	for at := from; at < len(b); {
		n := int(b[at])
		if n > 63 || at+1+n > len(b) || at+1+n-from > maxName {
			return -1
		}
		if at += 1 + n; n == 0 {
			q.length = uint8(copy(q.spelt[:], b[from:at]))
			lowerInto(q.lower[:], q.spelt[:q.length])
			return at
		}
	}
	return -1
}

// lowerInto writes a name in wire form in lower case. The lengths of labels, at most 63,
// are no letters.
func lowerInto(dst, src []byte) {
	for i, c := range src {
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		dst[i] = c
	}
}

// readOPT reads the OPT record (RFC 6891 §6.1.2). Its options say nothing that matters
// to us.
func (q *query) readOPT(b []byte) ([]byte, fault) {
	if len(b) < optSize || b[0] != 0 || binary.BigEndian.Uint16(b[1:]) != mdns.TypeOPT {
		return nil, mdns.RcodeFormatError
	}
	end := optSize + int(binary.BigEndian.Uint16(b[9:]))
	if len(b) < end {
		return nil, mdns.RcodeFormatError
	}
	q.edns = true
	q.size = min(max(binary.BigEndian.Uint16(b[3:]), minUDP), maxUDP)
	if version := b[6]; version != 0 {
		return nil, mdns.RcodeBadVers
	}
	return b[end:], 0
}

// refused says what no resolver answers for a client, or not in one message.
func (q *query) refused() fault {
	switch {
	case q.qclass != mdns.ClassINET:
		return mdns.RcodeRefused
	case q.qtype == 0, q.qtype == mdns.TypeOPT, q.qtype >= 128 && q.qtype <= 255: // meta types and ANY, RFC 6895 §3.1
		return mdns.RcodeNotImplemented
	}
	return 0
}

// typeText is the word for a type (RFC 3597 §5).
func typeText(qtype uint16) string { return mdns.Type(qtype).String() }
