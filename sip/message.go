package sip

// Caps of the scanner.
const (
	MaxHeaders    = 128  // header fields in a message
	MaxStartLine  = 4096 // bytes, without CRLF
	MaxHeaderLine = 8192 // bytes of one header field, folds and CRLF included
)

// Message is a scanned message. It is about 4 KB, meant to be reused, and must
// not be copied: Headers points into it. Everything in it is valid as long as
// the buffer that was given to Parse is.
type Message struct {
	Buf        []byte // exactly this message: from its start line to the end of its body
	IsRequest  bool
	Method     Method // of the request; of a response: of its CSeq
	MethodText Span
	RequestURI Span
	URI        URI // RequestURI, parsed
	Status     int
	ReasonText Span
	Headers    []Header
	HeadEnd    uint32 // offset after the empty line
	Body       Span

	Via              Via // the first Via value
	ViaCount         int // Via values in all
	From, To         NameAddr
	CallID           Span
	CSeq             uint32
	CSeqMethod       Span
	MaxForwards      int // -1: absent (and always in a response)
	MaxForwardsValue Span
	ContentLength    int // -1: absent

	fault  Fault              // the first one
	usable uint8              // what of an answer's needs has been found in order
	first  [headerCount]uint8 // 1 + index of the first header field of each ID
	again  uint64             // set of the IDs that have more of them
	_      noCopy
	store  [MaxHeaders]Header
}

// noCopy makes go vet report copies of a Message.
type noCopy struct{}

func (*noCopy) Lock()   {}
func (*noCopy) Unlock() {}

// What an error response copies from its request (RFC 3261 §8.2.6).
const (
	haveStart = 1 << iota
	haveVia
	haveFrom
	haveTo
	haveCallID
	haveCSeq
	haveHead // the lines of the head could be told apart to its end
	haveAll  = 1<<iota - 1
)

// Answerable reports whether a request that may have been refused can be
// answered: its Via, From, To, Call-ID and CSeq can be copied. An ACK is never
// answered (RFC 3261 §17.2.1).
func (m *Message) Answerable() bool {
	return m.IsRequest && m.usable == haveAll && m.Method != MethodAck
}

// Find returns the first header field with that ID, or nil.
func (m *Message) Find(id HeaderID) *Header {
	if id >= headerCount || m.first[id] == 0 {
		return nil
	}
	return &m.Headers[m.first[id]-1]
}

// Has reports whether there is a header field with that ID.
func (m *Message) Has(id HeaderID) bool { return id < headerCount && m.first[id] != 0 }

// Text returns the bytes of a span of this message.
func (m *Message) Text(s Span) []byte { return s.Of(m.Buf) }

// note remembers the first fault.
func (m *Message) note(f Fault) {
	if m.fault == OK {
		m.fault = f
	}
}

// reset clears all but store: 3.5 KB that are overwritten anyway.
func (m *Message) reset() {
	m.Buf, m.Headers = nil, nil
	m.IsRequest, m.Method, m.MethodText = false, MethodOther, Span{}
	m.RequestURI, m.URI, m.Status, m.ReasonText = Span{}, URI{}, 0, Span{}
	m.HeadEnd, m.Body = 0, Span{}
	m.Via, m.ViaCount = Via{}, 0
	m.From, m.To = NameAddr{}, NameAddr{}
	m.CallID, m.CSeq, m.CSeqMethod = Span{}, 0, Span{}
	m.MaxForwards, m.MaxForwardsValue, m.ContentLength = -1, Span{}, -1
	m.fault, m.usable, m.first, m.again = OK, 0, [headerCount]uint8{}, 0
}
