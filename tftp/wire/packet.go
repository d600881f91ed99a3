// Package wire reads and writes the packets of TFTP (RFC 1350) and its options
// (RFC 2347, 2348, 2349, 7440). It works in the caller's buffer and does not
// allocate.
package wire

import "encoding/binary"

// Op is the operation code of a packet (RFC 1350 §5).
type Op uint16

// The operations. OpNone stands for what is too short to have one.
const (
	OpNone  Op = 0
	OpRRQ   Op = 1 // asks to read a file
	OpWRQ   Op = 2 // asks to write one
	OpData  Op = 3
	OpAck   Op = 4
	OpError Op = 5
	OpOAck  Op = 6 // grants options (RFC 2347)
)

var opNames = [...]string{"none", "RRQ", "WRQ", "DATA", "ACK", "ERROR", "OACK"}

// String returns the name that the RFCs use.
func (o Op) String() string {
	if int(o) < len(opNames) {
		return opNames[o]
	}
	return "unknown"
}

// Sizes in bytes.
const (
	HeaderSize       = 4     // operation and block of DATA, and all of ACK
	DefaultBlockSize = 512   // without the option
	MinBlockSize     = 8     // RFC 2348
	MaxBlockSize     = 65464 // RFC 2348
	MaxRequest       = 512   // RFC 2347
)

// OpOf returns the operation of a packet.
func OpOf(b []byte) Op {
	if len(b) < 2 {
		return OpNone
	}
	return Op(binary.BigEndian.Uint16(b))
}

// Number returns the block number of DATA or ACK, or the code of ERROR. ok is false
// if the packet is too short for one.
func Number(b []byte) (n uint16, ok bool) {
	if len(b) < HeaderSize {
		return 0, false
	}
	return binary.BigEndian.Uint16(b[2:]), true
}

// ErrorCode is the code of an ERROR (RFC 1350 §5, RFC 2347).
type ErrorCode uint16

// The codes that are used here.
const (
	ErrNotDefined ErrorCode = 0
	ErrNotFound   ErrorCode = 1
	ErrAccess     ErrorCode = 2
	ErrUnknownTID ErrorCode = 5
)

// AppendError appends an ERROR packet to dst. The text has no NUL.
func AppendError(dst []byte, code ErrorCode, text string) []byte {
	dst = binary.BigEndian.AppendUint16(dst, uint16(OpError))
	dst = binary.BigEndian.AppendUint16(dst, uint16(code))
	return append(append(dst, text...), 0)
}
