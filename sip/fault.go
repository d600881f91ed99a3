package sip

// Fault says why a message, or a part of one, is refused. The zero Fault, OK,
// means that nothing is wrong: compare with it, do not return it as an error.
type Fault uint8

// The faults. The set is closed; the words of String are stable.
const (
	OK                    Fault = iota
	FaultKeepAlive              // nothing but a keep-alive (RFC 5626 §3.5.1, and phones' own forms)
	FaultStartLine              // not METHOD SP URI SP SIP/2.0, not SIP/2.0 SP CODE SP reason
	FaultVersion                // a SIP version other than 2.0
	FaultRequestURI             // Request-URI that cannot be read in one way only
	FaultStatus                 // status not of three digits, or not 100 to 699
	FaultStartLineTooLong       // start line over MaxStartLine
	FaultLineEnd                // CR without LF, or LF without CR
	FaultNUL                    // NUL outside a quoted pair
	FaultHeaderSyntax           // no colon, or a name that is no token
	FaultFold                   // continuation line that holds nothing but white space
	FaultHeaderTooLong          // header field over MaxHeaderLine
	FaultTooManyHeaders         // more than MaxHeaders
	FaultHeadEnd                // the empty line after the head is missing
	FaultRepeatedHeader         // a header field that may stand once only is repeated
	FaultMissingHeader          // Via, From, To, Call-ID or CSeq is missing
	FaultVia                    // Via that cannot be read
	FaultFrom                   // From that cannot be read
	FaultTo                     // To that cannot be read
	FaultCallID                 // Call-ID empty or with white space
	FaultCSeq                   // CSeq that cannot be read, or over 2^31-1
	FaultCSeqMethod             // CSeq method differs from the request's
	FaultMaxForwards            // Max-Forwards not 0 to 255
	FaultExpires                // Expires over 2^32-1
	FaultContentLength          // Content-Length that is no number, or differs from another one
	FaultBodyLength             // Content-Length does not fit the bytes that are there
	FaultMissingLength          // stream message without Content-Length
	FaultTooBig                 // message or head over the caller's cap
	FaultURI                    // URI that cannot be read
	FaultNameAddr               // name-addr or addr-spec that cannot be read
	FaultParam                  // parameter that cannot be read
	FaultRepeatedParam          // parameter given twice
	FaultList                   // comma separated list with an empty value or an open quote
	FaultCredentials            // digest credentials that cannot be read, or incomplete
	FaultChallenge              // digest challenge that cannot be read, or incomplete
	faultCount
)

// FaultCount is the number of Fault values, OK included.
const FaultCount = int(faultCount)

var faultNames = [faultCount]string{
	"ok", "keep-alive", "start-line", "version", "request-uri", "status", "start-line-too-long",
	"line-end", "nul", "header-syntax", "fold", "header-too-long", "too-many-headers", "head-end",
	"repeated-header", "missing-header", "via", "from", "to", "call-id", "cseq", "cseq-method",
	"max-forwards", "expires", "content-length", "body-length", "missing-length", "too-big",
	"uri", "name-addr", "param", "repeated-param", "list", "credentials", "challenge",
}

// faultErrors holds "sip: " and the name, so that Error does not allocate.
var faultErrors = func() (t [faultCount]string) {
	for i, name := range faultNames {
		t[i] = "sip: " + name
	}
	return t
}()

// String returns the fault as a stable word in kebab-case.
func (f Fault) String() string {
	if f >= faultCount {
		return "unknown"
	}
	return faultNames[f]
}

// Error makes a Fault an error.
func (f Fault) Error() string {
	if f >= faultCount {
		return "sip: unknown"
	}
	return faultErrors[f]
}

// Code returns the status code of a response that tells the sender about the
// fault (RFC 3261 §21.4 and §21.5).
func (f Fault) Code() int {
	switch f {
	case OK:
		return 200
	case FaultVersion:
		return 505
	case FaultStartLineTooLong:
		return 414
	case FaultHeaderTooLong, FaultTooManyHeaders, FaultTooBig:
		return 513
	}
	return 400
}
