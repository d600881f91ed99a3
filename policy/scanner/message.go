package scanner

import "bytes"

// Message is what the signatures look at. The slices point into the message and
// are needed during the call only. What a message does not have stays empty.
type Message struct {
	Method     []byte
	RequestURI []byte
	UserAgent  []byte
	Server     []byte

	FromDisplay, FromUser, FromHost, FromTag []byte // a display name may keep its quotes
	ToDisplay, ToUser, ToHost                []byte

	CallID    []byte
	Contact   []byte // the value of the first Contact as it stands
	ViaHost   []byte // of the topmost Via
	ViaBranch []byte // of the topmost Via
	Accept    []byte // the value of the first Accept

	QOP, CNonce []byte // of the credentials

	// ChallengeKnown says that the challenge which the credentials answer is
	// known, ChallengeHadQOP that it offered a qop. Without the first, nothing is
	// concluded from the second.
	ChallengeKnown, ChallengeHadQOP bool
}

// field is a part of a message that a condition looks at.
type field uint8

const (
	fieldMethod field = iota
	fieldRequestURI
	fieldRequestUser
	fieldRequestHost
	fieldUserAgent
	fieldServer
	fieldFromDisplay
	fieldFromUser
	fieldFromHost
	fieldFromTag
	fieldToDisplay
	fieldToUser
	fieldToHost
	fieldCallID
	fieldContact
	fieldContactUser
	fieldContactHost
	fieldViaHost
	fieldViaBranch
	fieldAccept
	fieldQOP
	fieldCNonce
	fieldChallenge
	fieldCount
)

// fieldNames returns the names of the fields in signature files, by field.
func fieldNames() []string {
	return []string{
		"method", "request-uri", "request-user", "request-host", "user-agent", "server",
		"from-display", "from-user", "from-host", "from-tag", "to-display", "to-user", "to-host",
		"call-id", "contact", "contact-user", "contact-host", "via-host", "via-branch",
		"accept", "qop", "cnonce", "challenge",
	}
}

// The values of the field challenge.
const (
	challengeQOP   = "qop"
	challengeNoQOP = "no-qop"
)

// slot returns where a field of an example is kept, nil for a field that is cut
// out of another one.
func (m *Message) slot(f field) *[]byte {
	switch f {
	case fieldMethod:
		return &m.Method
	case fieldRequestURI:
		return &m.RequestURI
	case fieldUserAgent:
		return &m.UserAgent
	case fieldServer:
		return &m.Server
	case fieldFromDisplay:
		return &m.FromDisplay
	case fieldFromUser:
		return &m.FromUser
	case fieldFromHost:
		return &m.FromHost
	case fieldFromTag:
		return &m.FromTag
	case fieldToDisplay:
		return &m.ToDisplay
	case fieldToUser:
		return &m.ToUser
	case fieldToHost:
		return &m.ToHost
	case fieldCallID:
		return &m.CallID
	case fieldContact:
		return &m.Contact
	case fieldViaHost:
		return &m.ViaHost
	case fieldViaBranch:
		return &m.ViaBranch
	case fieldAccept:
		return &m.Accept
	case fieldQOP:
		return &m.QOP
	case fieldCNonce:
		return &m.CNonce
	}
	return nil
}

// userOf cuts the user out of a URI, with or without display name and angle
// brackets around it. It does not judge: of what is no SIP URI it returns anything
// or nothing. So do fromHost and hostOf.
func userOf(v []byte) []byte {
	v = unschemed(v)
	i := bytes.IndexByte(v, '@')
	if i < 0 {
		return nil
	}
	user := v[:i]
	if i := bytes.IndexByte(user, ':'); i >= 0 {
		user = user[:i] // without a password
	}
	return user
}

// fromHost returns a URI from its host on.
func fromHost(v []byte) []byte {
	v = unschemed(v)
	return v[bytes.IndexByte(v, '@')+1:]
}

// hostOf cuts off what follows the host; an IPv6 reference keeps its brackets.
func hostOf(v []byte) []byte {
	if len(v) > 0 && v[0] == '[' {
		return v[:bytes.IndexByte(v, ']')+1]
	}
	for i, c := range v {
		if !hostBytes[c] {
			return v[:i]
		}
	}
	return v
}

// unschemed returns what follows the scheme of a URI, nil if there is none.
func unschemed(v []byte) []byte {
	if len(v) > 0 && v[0] == '"' {
		v = afterQuotes(v)
	}
	if len(v) > 0 && v[0] == '<' { // most often
		v = v[1:]
	} else if i := bytes.IndexByte(v, '<'); i >= 0 {
		v = v[i+1:]
	}
	const usual = "sip:"
	if len(v) >= len(usual) && string(v[:len(usual)]) == usual {
		return v[len(usual):]
	}
	i := bytes.IndexByte(v, ':')
	if i < 0 {
		return nil
	}
	return v[i+1:]
}

// afterQuotes returns what follows a quoted display name, which may hold any of
// the characters that are looked for later. One that does not end is none.
func afterQuotes(v []byte) []byte {
	v = v[1:]
	for i := 0; i < len(v); i++ {
		switch v[i] {
		case '\\':
			i++
		case '"':
			return v[i+1:]
		}
	}
	return v
}

// hostBytes are those that may be in a host name or an IPv4 address.
var hostBytes = func() (is [256]bool) {
	for c := range is {
		is[c] = c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9' || c == '.' || c == '-' || c == '_'
	}
	return is
}()

// unquoted returns v without the quotes around it.
func unquoted(v []byte) []byte {
	if n := len(v); n >= 2 && v[0] == '"' && v[n-1] == '"' {
		return v[1 : n-1]
	}
	return v
}
