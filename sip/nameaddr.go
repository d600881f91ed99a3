package sip

import "bytes"

// NameAddr is a name-addr or addr-spec with its header parameters: the value of
// From, To, Contact, Route, Record-Route, Path, Refer-To and their like.
type NameAddr struct {
	Display Span // keeps its quotes
	URISpan Span // without brackets
	// Params is the header parameters with the leading ';'. It ends where another
	// one may be inserted, also when it is empty.
	Params    Span
	Bracketed bool
	Star      bool // "*", as in "Contact: *": there is no URI
	URI       URI
	Tag       Span // value of the tag parameter, empty when there is none

	expires Param // the first one of that name
}

// ParseNameAddr parses the value that fills s.
func ParseNameAddr(buf []byte, s Span) (n NameAddr, fault Fault) {
	if !s.valid(len(buf)) {
		return n, FaultNameAddr
	}
	fault = n.parse(buf, int(s.Off), int(s.End))
	return n, fault
}

// Param returns the header parameter with that name, which is given in lower
// case.
func (n *NameAddr) Param(buf []byte, name string) (Param, bool) {
	if name == "expires" {
		return n.expires, n.expires.Present
	}
	return findParam(buf, n.Params, name)
}

func (n *NameAddr) parse(buf []byte, i, end int) Fault {
	i = skipLWS(buf, i, end)
	end = trimLWS(buf, i, end)
	if i == end {
		return FaultNameAddr
	}
	if end-i == 1 && buf[i] == '*' {
		n.Star = true
		n.URISpan, n.Params = span(i, end), span(end, end)
		return OK
	}
	angle := n.display(buf, i, end)
	if angle < 0 {
		return FaultNameAddr
	}
	var after int
	if angle < end {
		if after = skipAngle(buf, angle, end); after < 0 {
			return FaultNameAddr
		}
		n.Bracketed, n.URISpan = true, span(angle+1, after-1)
	} else if after = n.addrSpec(buf, i, end); after < 0 {
		return FaultNameAddr
	}
	if fault := n.URI.parse(buf, int(n.URISpan.Off), int(n.URISpan.End)); fault != OK {
		return fault
	}
	return n.params(buf, after, end)
}

// display sets Display and returns the offset of the '<' after it, end when this
// is an addr-spec, or -1.
//
// A display name without quotes should be tokens and spaces. Phones write names
// in UTF-8 or Latin-1, with commas and brackets, without quotes. They may, with
// two exceptions: a ':' would let another parser read a URI there, and a quote
// or ';' could end the name early.
func (n *NameAddr) display(buf []byte, i, end int) int {
	start := i
	if buf[i] == '"' {
		if i = skipQuoted(buf, i, end); i < 0 {
			return -1
		}
		n.Display = span(start, i)
		if i = skipLWS(buf, i, end); i == end || buf[i] != '<' {
			return -1
		}
		return i
	}
	colon := false
	for ; i < end; i++ {
		switch buf[i] {
		case '<':
			if colon {
				return -1
			}
			n.Display = span(start, trimLWS(buf, start, i))
			return i
		case ':':
			colon = true
		case '"', ';', '>':
			return end
		}
	}
	return end
}

// addrSpec finds the end of a URI without brackets. Everything after the first
// ';' belongs to the header (RFC 3261 §20); a ',' or '?' in such a URI is
// forbidden there, and an '@' only after the ';' can be read in two ways.
func (n *NameAddr) addrSpec(buf []byte, i, end int) int {
	start, at := i, false
	for ; i < end && buf[i] != ';' && class[buf[i]]&cLWS == 0; i++ {
		switch buf[i] {
		case ',', '?':
			return -1
		case '@':
			at = true
		}
	}
	if !at && bytes.IndexByte(buf[i:end], '@') >= 0 {
		return -1
	}
	n.URISpan = span(start, i)
	return i
}

// params checks the header parameters and picks out the tag.
func (n *NameAddr) params(buf []byte, i, end int) Fault {
	i = skipLWS(buf, i, end)
	n.Params = span(i, i)
	for tagged := false; i < end; {
		var p Param
		if i = scanParam(buf, i, end, &p); i < 0 {
			return FaultParam
		}
		n.Params.End = max(n.Params.End, p.Whole.End)
		if p.Name.Len() == 7 && !n.expires.Present && p.Name.Is(buf, "expires") {
			n.expires = p
		}
		if p.Name.Len() != 3 || !p.Name.Is(buf, "tag") {
			continue
		}
		if tagged {
			return FaultRepeatedParam
		}
		// An empty tag is no tag to some and a tag to others, and a quoted one is
		// compared with its quotes or without.
		if p.Value.Empty() || buf[p.Value.Off] == '"' {
			return FaultParam
		}
		tagged, n.Tag = true, p.Value
	}
	return OK
}
