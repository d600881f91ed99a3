package dns

import (
	"encoding/binary"

	mdns "github.com/miekg/dns"
)

// The sizes of answers in bytes, with everything that is in them.
const (
	minUDP = 512  // without EDNS, RFC 1035 §4.2.1
	maxUDP = 1232 // with EDNS: what no path fragments
	// maxAddresses is that of an answer with addresses. glibc's getaddrinfo asks for A and
	// AAAA at once and reads both answers into one buffer of 2,048 bytes; what is larger
	// took CVE-2015-7547 to make it overflow.
	maxAddresses = 1024
	// maxOther is that of the answers to all other types.
	maxOther = 16384
)

// holdsAddresses says whether answers of a type go into the buffer of getaddrinfo.
func holdsAddresses(qtype uint16) bool { return qtype == mdns.TypeA || qtype == mdns.TypeAAAA }

// limitTCP is the largest answer over TCP.
func limitTCP(qtype uint16, p Protection) int {
	if holdsAddresses(qtype) && p != Off {
		return maxAddresses
	}
	return maxOther
}

// limitUDP is the largest answer over UDP to a client that takes size bytes.
func limitUDP(qtype uint16, size int, p Protection) int { return min(size, limitTCP(qtype, p)) }

// packed is a message without OPT that we have written, with all its TTLs alike.
type packed struct {
	wire []byte
	ttls []uint16 // where they stand
}

// append writes a message for a client: its ID, its spelling of the name, the time that
// is left. It appends to dst.
func (p *packed) append(dst []byte, q *asker, ttl uint32) []byte {
	at := len(dst)
	dst = append(dst, p.wire...)
	m := dst[at:]
	binary.BigEndian.PutUint16(m, q.id)
	binary.BigEndian.PutUint16(m[2:], binary.BigEndian.Uint16(m[2:])|q.flags)
	copy(m[headerSize:], q.spelt[:q.length])
	for _, i := range p.ttls {
		binary.BigEndian.PutUint32(m[i:], ttl)
	}
	return q.appendOPT(dst, at, 0)
}

// appendOPT ends a message that begins at an offset with an OPT record, if the client
// has sent one. high is the upper part of the rcode.
func (q *asker) appendOPT(dst []byte, at int, high byte) []byte {
	if !q.edns {
		return dst
	}
	dst[at+11] = 1 // ARCOUNT
	return append(dst, 0, 0, byte(mdns.TypeOPT), maxUDP>>8, maxUDP&0xff, high, 0, 0, 0, 0, 0)
}

// appendBare writes an answer without records: an error, or that the answer does not fit.
func (q *asker) appendBare(dst []byte, flags uint16, rcode int) []byte {
	at := len(dst)
	flags |= flagQR | flagRA | q.flags | uint16(rcode&rcodes)
	dst = append(dst, byte(q.id>>8), byte(q.id), byte(flags>>8), byte(flags), 0, 0, 0, 0, 0, 0, 0, 0)
	if q.asked {
		dst[at+5] = 1
		dst = append(dst, q.spelt[:q.length]...)
		dst = append(dst, byte(q.qtype>>8), byte(q.qtype), byte(q.qclass>>8), byte(q.qclass))
	}
	return q.appendOPT(dst, at, byte(rcode>>4))
}
