package sip

// HeaderID names a header field that sipward knows, or HeaderOther.
type HeaderID uint8

// The header fields.
const (
	HeaderOther HeaderID = iota
	HeaderVia
	HeaderFrom
	HeaderTo
	HeaderCallID
	HeaderCSeq
	HeaderMaxForwards
	HeaderContact
	HeaderRoute
	HeaderRecordRoute
	HeaderPath
	HeaderServiceRoute
	HeaderContentLength
	HeaderContentType
	HeaderContentEncoding
	HeaderContentDisposition
	HeaderExpires
	HeaderMinExpires
	HeaderUserAgent
	HeaderServer
	HeaderAuthorization
	HeaderProxyAuthorization
	HeaderWWWAuthenticate
	HeaderProxyAuthenticate
	HeaderAuthenticationInfo
	HeaderProxyRequire
	HeaderRequire
	HeaderSupported
	HeaderUnsupported
	HeaderAllow
	HeaderAllowEvents
	HeaderAccept
	HeaderEvent
	HeaderSubscriptionState
	HeaderReferTo
	HeaderReferredBy
	HeaderReplaces
	HeaderTargetDialog
	HeaderRetryAfter
	HeaderSessionExpires
	HeaderSubject
	HeaderDate
	HeaderReason
	HeaderWarning
	HeaderRSeq
	HeaderRAck
	HeaderReplyTo
	HeaderPrivacy
	HeaderPAssertedIdentity
	HeaderPPreferredIdentity
	HeaderRemotePartyID
	HeaderDiversion
	HeaderHistoryInfo
	HeaderIdentity
	headerCount
)

// HeaderCount is the number of HeaderID values.
const HeaderCount = int(headerCount)

var _ [64 - headerCount]struct{} // sets of HeaderIDs are bits of a uint64

// headerNames holds the canonical names, in the case that people write them.
var headerNames = [headerCount]string{
	HeaderOther: "", HeaderVia: "Via", HeaderFrom: "From", HeaderTo: "To",
	HeaderCallID: "Call-ID", HeaderCSeq: "CSeq", HeaderMaxForwards: "Max-Forwards",
	HeaderContact: "Contact", HeaderRoute: "Route", HeaderRecordRoute: "Record-Route",
	HeaderPath: "Path", HeaderServiceRoute: "Service-Route",
	HeaderContentLength: "Content-Length", HeaderContentType: "Content-Type",
	HeaderContentEncoding: "Content-Encoding", HeaderContentDisposition: "Content-Disposition",
	HeaderExpires: "Expires", HeaderMinExpires: "Min-Expires",
	HeaderUserAgent: "User-Agent", HeaderServer: "Server",
	HeaderAuthorization: "Authorization", HeaderProxyAuthorization: "Proxy-Authorization",
	HeaderWWWAuthenticate: "WWW-Authenticate", HeaderProxyAuthenticate: "Proxy-Authenticate",
	HeaderAuthenticationInfo: "Authentication-Info",
	HeaderProxyRequire:       "Proxy-Require", HeaderRequire: "Require",
	HeaderSupported: "Supported", HeaderUnsupported: "Unsupported",
	HeaderAllow: "Allow", HeaderAllowEvents: "Allow-Events", HeaderAccept: "Accept",
	HeaderEvent: "Event", HeaderSubscriptionState: "Subscription-State",
	HeaderReferTo: "Refer-To", HeaderReferredBy: "Referred-By",
	HeaderReplaces: "Replaces", HeaderTargetDialog: "Target-Dialog",
	HeaderRetryAfter: "Retry-After", HeaderSessionExpires: "Session-Expires",
	HeaderSubject: "Subject", HeaderDate: "Date", HeaderReason: "Reason",
	HeaderWarning: "Warning", HeaderRSeq: "RSeq", HeaderRAck: "RAck",
	HeaderReplyTo: "Reply-To", HeaderPrivacy: "Privacy",
	HeaderPAssertedIdentity:  "P-Asserted-Identity",
	HeaderPPreferredIdentity: "P-Preferred-Identity",
	HeaderRemotePartyID:      "Remote-Party-ID", HeaderDiversion: "Diversion",
	HeaderHistoryInfo: "History-Info", HeaderIdentity: "Identity",
}

// compactNames holds the one-letter names (RFC 3261 §7.3.3 and the IANA
// registry of header fields) of the header fields above.
var compactNames = [26]HeaderID{
	'b' - 'a': HeaderReferredBy, 'c' - 'a': HeaderContentType,
	'e' - 'a': HeaderContentEncoding, 'f' - 'a': HeaderFrom, 'i' - 'a': HeaderCallID,
	'k' - 'a': HeaderSupported, 'l' - 'a': HeaderContentLength, 'm' - 'a': HeaderContact,
	'o' - 'a': HeaderEvent, 'r' - 'a': HeaderReferTo, 's' - 'a': HeaderSubject,
	't' - 'a': HeaderTo, 'u' - 'a': HeaderAllowEvents, 'v' - 'a': HeaderVia,
	'x' - 'a': HeaderSessionExpires, 'y' - 'a': HeaderIdentity,
}

// String returns the canonical name of the header field, "" for HeaderOther.
func (id HeaderID) String() string {
	if id >= headerCount {
		return ""
	}
	return headerNames[id]
}

// Header is one header field of a message.
type Header struct {
	ID   HeaderID
	Name Span // as written, without white space before the colon
	// Value is trimmed; inside it may hold folds (CRLF and white space).
	Value Span
	// Line is the whole field: from its name to after the CRLF of its last line.
	Line Span
}

const maxHeaderName = 24 // longest name above, rounded up

type headerName struct {
	id           HeaderID
	first        byte
	canon, lower string
}

// headersByLength finds a header field by the length of its name. Read-only.
var headersByLength = func() (t [maxHeaderName + 1][]headerName) {
	for id := HeaderVia; id < headerCount; id++ {
		canon := headerNames[id]
		low := make([]byte, len(canon))
		for i := range low {
			low[i] = lower[canon[i]]
		}
		t[len(canon)] = append(t[len(canon)], headerName{id, low[0], canon, string(low)})
	}
	return t
}()

// LookupHeader returns the HeaderID for a full or compact name, in any case, or
// HeaderOther.
func LookupHeader(name []byte) HeaderID {
	if len(name) <= 1 {
		if len(name) == 1 {
			if c := lower[name[0]] - 'a'; c < 26 {
				return compactNames[c]
			}
		}
		return HeaderOther
	}
	if len(name) > maxHeaderName {
		return HeaderOther
	}
	first := lower[name[0]]
	list := headersByLength[len(name)]
	for i := range list {
		e := &list[i]
		if e.first == first && (string(name) == e.canon || equalFold(name, e.lower)) {
			return e.id
		}
	}
	return HeaderOther
}

// usualHeader finds the header field of a line by its name, if that is one of the
// most frequent, written as nearly everybody does, with the colon right behind it;
// else it returns HeaderOther.
func usualHeader(line []byte) (id HeaderID, name int) {
	if len(line) < len("Content-Length:") {
		return HeaderOther, 0
	}
	switch line[0] {
	case 'V':
		if string(line[:4]) == "Via:" {
			return HeaderVia, 3
		}
	case 'F':
		if string(line[:5]) == "From:" {
			return HeaderFrom, 4
		}
	case 'T':
		if string(line[:3]) == "To:" {
			return HeaderTo, 2
		}
	case 'C':
		switch {
		case string(line[:5]) == "CSeq:":
			return HeaderCSeq, 4
		case string(line[:8]) == "Call-ID:":
			return HeaderCallID, 7
		case string(line[:8]) == "Contact:":
			return HeaderContact, 7
		case string(line[:15]) == "Content-Length:":
			return HeaderContentLength, 14
		case string(line[:13]) == "Content-Type:":
			return HeaderContentType, 12
		}
	case 'M':
		if string(line[:13]) == "Max-Forwards:" {
			return HeaderMaxForwards, 12
		}
	case 'R':
		switch {
		case string(line[:13]) == "Record-Route:":
			return HeaderRecordRoute, 12
		case string(line[:6]) == "Route:":
			return HeaderRoute, 5
		}
	case 'U':
		if string(line[:11]) == "User-Agent:" {
			return HeaderUserAgent, 10
		}
	case 'A':
		switch {
		case string(line[:6]) == "Allow:":
			return HeaderAllow, 5
		case string(line[:14]) == "Authorization:":
			return HeaderAuthorization, 13
		}
	case 'E':
		if string(line[:8]) == "Expires:" {
			return HeaderExpires, 7
		}
	case 'S':
		if string(line[:10]) == "Supported:" {
			return HeaderSupported, 9
		}
	}
	return HeaderOther, 0
}
