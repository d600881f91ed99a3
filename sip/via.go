package sip

// Via is one parsed Via value (RFC 3261 §20.42).
type Via struct {
	Value     Span // the whole value
	Transport Span
	Host      Span // keeps the brackets of an IPv6 reference
	Port      int  // 0: absent
	SentBy    Span // host and port
	// Params is the parameters with the leading ';'. It ends where another one may
	// be inserted, also when it is empty.
	Params                         Span
	Branch, Received, MAddr, RPort Param
	Header                         int  // index in Message.Headers, when found there
	First, Last                    bool // of its header line

	other Param // the first one that is none of these
}

// ParseVia parses the Via value that fills s. Header, First and Last are not set.
func ParseVia(buf []byte, s Span) (v Via, fault Fault) {
	if !s.valid(len(buf)) {
		return v, FaultVia
	}
	fault = v.parse(buf, s)
	return v, fault
}

// Param returns the parameter with that name, which is given in lower case.
func (v *Via) Param(buf []byte, name string) (Param, bool) {
	if v.other.Name.Is(buf, name) {
		return v.other, true
	}
	return findParam(buf, v.Params, name)
}

// parse returns FaultVersion only when all else is in order, so that 505 can be
// answered.
func (v *Via) parse(buf []byte, s Span) Fault {
	i := skipLWS(buf, int(s.Off), int(s.End))
	end := trimLWS(buf, i, int(s.End))
	v.Value = span(i, end)
	i, version := v.protocol(buf, i, end)
	if i < 0 {
		return FaultVia
	}
	if i = v.sentBy(buf, i, end); i < 0 {
		return FaultVia
	}
	if fault := v.params(buf, i, end); fault != OK {
		return fault
	}
	if !version {
		return FaultVersion
	}
	return OK
}

// protocol reads "SIP/2.0/UDP" and the white space after it. White space may
// stand around the slashes, and the case is free.
func (v *Via) protocol(buf []byte, i, end int) (next int, version bool) {
	// What nearly everybody writes.
	if end-i > 8 && string(buf[i:i+8]) == "SIP/2.0/" {
		version, i = true, skipLWS(buf, i+8, end)
	} else if i, version = viaVersion(buf, i, end); i < 0 {
		return -1, false
	}
	start := i
	for i < end && class[buf[i]]&cToken != 0 {
		i++
	}
	v.Transport = span(start, i)
	after := skipLWS(buf, i, end)
	if i == start || after == i {
		return -1, false
	}
	return after, version
}

// viaVersion reads "SIP / 2.0 / " in its freer forms.
func viaVersion(buf []byte, i, end int) (next int, version bool) {
	var part [2]Span
	for k := range part {
		start := i
		for i < end && class[buf[i]]&cToken != 0 {
			i++
		}
		part[k] = span(start, i)
		if i = skipLWS(buf, i, end); i == end || buf[i] != '/' {
			return -1, false
		}
		i = skipLWS(buf, i+1, end)
	}
	if !part[0].Is(buf, "sip") || part[1].Empty() {
		return -1, false
	}
	return i, part[1].Is(buf, "2.0")
}

// sentBy reads "host" or "host : port". An IPv6 address without brackets ends
// here: nobody can tell its last part from a port (RFC 5118 §4.3).
func (v *Via) sentBy(buf []byte, i, end int) int {
	start := i
	if i = scanHost(buf, i, end); i < 0 {
		return -1
	}
	v.Host, v.SentBy = span(start, i), span(start, i)
	if i = skipLWS(buf, i, end); i < end && buf[i] == ':' {
		i = skipLWS(buf, i+1, end)
		if i, v.Port = scanPort(buf, i, end); v.Port == 0 {
			return -1
		}
		v.SentBy.End = uint32(i)
		i = skipLWS(buf, i, end)
	}
	return i
}

// params checks the parameters and picks out those that routing needs. Each may
// be there once: with two, parsers take the first or the last.
func (v *Via) params(buf []byte, i, end int) Fault {
	v.Params = span(i, i)
	for i < end {
		var p Param
		if i = scanParam(buf, i, end, &p); i < 0 {
			return FaultVia
		}
		v.Params.End = max(v.Params.End, p.Whole.End)
		var known *Param
		switch p.Name.Len() {
		case 5:
			if p.Name.Is(buf, "rport") {
				known = &v.RPort
			} else if p.Name.Is(buf, "maddr") {
				known = &v.MAddr
			}
		case 6:
			if p.Name.Is(buf, "branch") {
				known = &v.Branch
			}
		case 8:
			if p.Name.Is(buf, "received") {
				known = &v.Received
			}
		}
		if known == nil {
			if !v.other.Present {
				v.other = p
			}
			continue
		}
		if known.Present {
			return FaultRepeatedParam
		}
		if known != &v.RPort && p.Value.Empty() {
			return FaultVia
		}
		*known = p
	}
	return OK
}
