package wire

import "bytes"

// Fault says why a request is refused; the zero Fault is none. The words are
// constant.
type Fault uint8

// The faults.
const (
	OK             Fault = iota
	NotRequest           // neither RRQ nor WRQ
	TooLong              // over MaxRequest
	Unterminated         // a text without its NUL
	NoName               // the name of the file is empty
	BadMode              // neither octet nor netascii
	BadOption            // an option without a value, or whose name is not printable
	RepeatedOption       // an option twice (RFC 2347: it may be specified only once)
	TooManyOptions
)

var faultNames = [...]string{
	"ok", "tftp-not-request", "tftp-too-long", "tftp-unterminated", "tftp-no-name", "tftp-mode", "tftp-option",
	"tftp-repeated-option", "tftp-too-many-options",
}

// String returns the stable word of the fault.
func (f Fault) String() string {
	if int(f) < len(faultNames) {
		return faultNames[f]
	}
	return "unknown"
}

// maxOptions is far above the five that there are.
const maxOptions = 16

// Request is an RRQ or WRQ. Its slices point into the packet.
type Request struct {
	Write   bool
	Name    []byte // of the file; not empty, otherwise as it came
	Mode    []byte // octet or netascii, in any case of letters
	Options Options
}

// Parse reads a request. What two servers could read differently is refused.
// Zeros behind the last option are let pass: some boot ROMs fill their packets up.
func (r *Request) Parse(b []byte) Fault {
	*r = Request{}
	op := OpOf(b)
	switch {
	case op != OpRRQ && op != OpWRQ:
		return NotRequest
	case len(b) > MaxRequest:
		return TooLong
	}
	r.Write = op == OpWRQ
	rest, ok := b[2:], false
	if r.Name, rest, ok = cut(rest); !ok {
		return Unterminated
	}
	if len(r.Name) == 0 {
		return NoName
	}
	if r.Mode, rest, ok = cut(rest); !ok {
		return Unterminated
	}
	if !equalFold(r.Mode, "octet") && !equalFold(r.Mode, "netascii") {
		return BadMode // "mail" has been obsolete since RFC 1350
	}
	return r.Options.parse(rest)
}

// cut returns what stands before the first NUL, and what behind it.
func cut(b []byte) (text, rest []byte, ok bool) {
	i := bytes.IndexByte(b, 0)
	if i < 0 {
		return nil, nil, false
	}
	return b[:i], b[i+1:], true
}

// equalFold compares ASCII text with a word in small letters.
func equalFold(b []byte, word string) bool {
	if len(b) != len(word) {
		return false
	}
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		if c != word[i] {
			return false
		}
	}
	return true
}

// Options are the known options of a request or an OACK. An option that is absent,
// or has a value that is not one of the numbers allowed, is zero; the peers settle
// between themselves what becomes of it.
type Options struct {
	BlockSize  int // bytes, MinBlockSize to MaxBlockSize (RFC 2348)
	WindowSize int // blocks, 1 to 65535 (RFC 7440)
	Timeout    int // seconds, 1 to 255 (RFC 2349)
	Count      int // of all options, the unknown ones included
}

// ParseOAck reads an OACK. Its fault is one of those of options.
func (o *Options) ParseOAck(b []byte) Fault {
	*o = Options{}
	if OpOf(b) != OpOAck {
		return NotRequest
	}
	return o.parse(b[2:])
}

func (o *Options) parse(b []byte) Fault {
	var names [maxOptions][]byte
	for len(b) > 0 {
		name, rest, ok := cut(b)
		if !ok {
			return Unterminated
		}
		if len(name) == 0 {
			if len(bytes.TrimLeft(b, "\x00")) > 0 {
				return BadOption
			}
			return OK
		}
		value, rest, ok := cut(rest)
		if !ok {
			return BadOption
		}
		for _, c := range name {
			if c <= ' ' || c > '~' {
				return BadOption
			}
		}
		for _, known := range names[:o.Count] {
			if bytes.EqualFold(known, name) {
				return RepeatedOption
			}
		}
		if o.Count == maxOptions {
			return TooManyOptions
		}
		names[o.Count] = name
		o.Count++
		o.set(name, value)
		b = rest
	}
	return OK
}

func (o *Options) set(name, value []byte) {
	switch {
	case equalFold(name, "blksize"):
		o.BlockSize = number(value, MinBlockSize, MaxBlockSize)
	case equalFold(name, "windowsize"):
		o.WindowSize = number(value, 1, 65535)
	case equalFold(name, "timeout"):
		o.Timeout = number(value, 1, 255)
	}
}

// number reads decimal digits; 0 for anything else, or out of range.
func number(b []byte, lowest, highest int) int {
	n := 0
	for _, c := range b {
		if c < '0' || c > '9' || n > highest {
			return 0
		}
		n = n*10 + int(c-'0')
	}
	if n < lowest || n > highest {
		return 0
	}
	return n
}
