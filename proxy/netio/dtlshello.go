package netio

import (
	"bytes"
	"encoding/binary"
)

// Of the wire format of DTLS 1.2 (RFC 6347 §4.1, §4.2.2; RFC 9146 §4).
const (
	recordHeader    = 13
	handshakeHeader = 12

	recordChangeCipher = 20
	recordAlert        = 21
	recordData         = 23
	recordCID          = 25 // encrypted, with a connection ID

	helloClient = 1
	helloVerify = 3

	randomLen = 32
	cidLen    = 8
)

// clientHello is an unfragmented ClientHello in a record of its own. Its slices are
// of the datagram.
type clientHello struct {
	record   []byte // all of it
	sequence uint64 // of the record
	message  uint16 // of the handshake: 0 without a cookie, then 1
	before   []byte // version, random and session ID
	random   []byte
	cookie   []byte
	after    []byte // everything behind the cookie
	offer    []byte // of that the cipher suites and compression methods
}

// parseHello reads the first record of a datagram.
func parseHello(b []byte) (h clientHello, ok bool) {
	if !opensAssociation(b) || binary.BigEndian.Uint16(b[3:]) != 0 {
		return h, false
	}
	n := recordHeader + int(binary.BigEndian.Uint16(b[11:]))
	if n > len(b) {
		return h, false
	}
	h.record = b[:n:n]
	h.sequence = uint48(b[5:])
	hs := h.record[recordHeader:]
	if len(hs) < handshakeHeader {
		return h, false
	}
	length := uint24(hs[1:])
	h.message = binary.BigEndian.Uint16(hs[4:])
	if length != len(hs)-handshakeHeader || uint24(hs[6:]) != 0 || uint24(hs[9:]) != length {
		return h, false // in fragments: there is no answer without state
	}
	return h, h.parseBody(hs[handshakeHeader:])
}

// opensAssociation reports whether a datagram begins with a ClientHello in the clear.
func opensAssociation(b []byte) bool {
	return len(b) > recordHeader && b[0] == recordHandshake && b[1] == 0xfe && b[recordHeader] == helloClient
}

func (h *clientHello) parseBody(body []byte) bool {
	const fixed = 2 + randomLen // version and random
	if len(body) < fixed {
		return false
	}
	h.random = body[2:fixed]
	id, rest, ok := vector8(body[fixed:])
	if !ok || len(id) > 32 {
		return false
	}
	h.before = body[:fixed+1+len(id)]
	if h.cookie, h.after, ok = vector8(rest); !ok || len(h.after) < 2 {
		return false
	}
	suites := 2 + int(binary.BigEndian.Uint16(h.after))
	if suites < 4 || suites > len(h.after) {
		return false
	}
	methods, _, ok := vector8(h.after[suites:])
	h.offer = h.after[:suites+min(1+len(methods), len(h.after)-suites)]
	return ok && len(methods) > 0
}

// vector8 cuts a vector with a length of one byte from the front of b.
func vector8(b []byte) (v, rest []byte, ok bool) {
	if len(b) == 0 || int(b[0]) > len(b)-1 {
		return nil, nil, false
	}
	return b[1 : 1+b[0]], b[1+b[0]:], true
}

// appendFirst appends the ClientHello without a cookie that h, which has one, was
// preceded by. It is the same but for its extensions, which do not matter.
func (h *clientHello) appendFirst(to []byte) []byte {
	start := len(to)
	to = append(to, h.record[:recordHeader+handshakeHeader]...)
	to = append(to, h.before...)
	to = append(to, 0)
	to = append(to, h.after...)
	first := to[start:]
	putUint48(first[5:], 0)
	binary.BigEndian.PutUint16(first[11:], uint16(len(first)-recordHeader))
	hs := first[recordHeader:]
	putUint24(hs[1:], len(hs)-handshakeHeader)
	binary.BigEndian.PutUint16(hs[4:], 0)
	putUint24(hs[9:], len(hs)-handshakeHeader)
	return to
}

// appendVerify appends the HelloVerifyRequest that answers h. It is shorter than any
// ClientHello, and numbered as h is: the same answer to the same question (RFC 6347
// §4.2.1).
func (h *clientHello) appendVerify(to, cookie []byte) []byte {
	length := 3 + len(cookie)
	to = append(to, recordHandshake, 0xfe, 0xff)
	to = append(to, h.record[3:11]...)
	to = binary.BigEndian.AppendUint16(to, uint16(handshakeHeader+length))
	to = append(to, helloVerify, 0, 0, byte(length))
	to = binary.BigEndian.AppendUint16(to, h.message)
	to = append(to, 0, 0, 0, 0, 0, byte(length), 0xfe, 0xff, byte(len(cookie)))
	return append(to, cookie...)
}

// isVerify reports whether a datagram of ours is a HelloVerifyRequest.
func isVerify(b []byte) bool {
	return len(b) > recordHeader && b[0] == recordHandshake && b[recordHeader] == helloVerify
}

// shiftSequence adds delta to the sequence numbers of the records in the clear that
// b begins with. Nothing protects those numbers.
func shiftSequence(b []byte, delta uint64) {
	for len(b) >= recordHeader && b[0] != recordCID && binary.BigEndian.Uint16(b[3:]) == 0 {
		putUint48(b[5:], uint48(b[5:])+delta)
		b = b[min(recordHeader+int(binary.BigEndian.Uint16(b[11:])), len(b)):]
	}
}

// appendRecords appends those records of a datagram that may concern an association.
// Anybody can send records in the clear, or out of order, in the other side's name;
// of those only what a handshake needs is let through, because a record that the
// protocol does not allow would end the association. plain is how many of the bytes
// that it has appended were not encrypted.
func appendRecords(to, b []byte, established bool) (out []byte, plain int) {
	for len(b) >= recordHeader && b[1] == 0xfe {
		head := recordHeader
		if b[0] == recordCID {
			head += cidLen
		}
		if len(b) <= head {
			return to, plain
		}
		n := head + int(binary.BigEndian.Uint16(b[head-2:]))
		if n > len(b) || n == head {
			return to, plain
		}
		record := b[:n]
		b = b[n:]
		switch binary.BigEndian.Uint16(record[3:]) {
		case 0:
			if mayBePlain(record, established) {
				to = append(to, record...)
				plain += n
			}
		case 1:
			switch record[0] {
			case recordCID, recordData, recordHandshake, recordAlert:
				to = append(to, record...)
			}
		}
	}
	return to, plain
}

func mayBePlain(record []byte, established bool) bool {
	switch record[0] {
	case recordHandshake: // repeated when our last answer was lost
		return true
	case recordChangeCipher:
		return !established && bytes.Equal(record[recordHeader:], []byte{1})
	case recordAlert:
		return !established && len(record) == recordHeader+2
	}
	return false
}

// cidOf is the connection ID of a datagram's first record.
func cidOf(b []byte) (id [cidLen]byte, ok bool) {
	if len(b) < recordHeader+cidLen || b[0] != recordCID {
		return id, false
	}
	return [cidLen]byte(b[11:]), true
}

func uint24(b []byte) int { return int(b[0])<<16 | int(b[1])<<8 | int(b[2]) }

func putUint24(b []byte, v int) { b[0], b[1], b[2] = byte(v>>16), byte(v>>8), byte(v) }

func uint48(b []byte) uint64 {
	return uint64(binary.BigEndian.Uint16(b))<<32 | uint64(binary.BigEndian.Uint32(b[2:]))
}

func putUint48(b []byte, v uint64) {
	binary.BigEndian.PutUint16(b, uint16(v>>32))
	binary.BigEndian.PutUint32(b[2:], uint32(v))
}
