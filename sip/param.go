package sip

// Param is one ";name=value".
type Param struct {
	Present bool
	Whole   Span // from the ';' to the end of the value: delete this to remove it
	Name    Span
	// Value is empty for ";name" and for ";name=". It keeps its quotes.
	Value Span
}

// scanParam reads the header parameter (generic-param of RFC 3261 §25.1) at i,
// which must be at white space, a ';' or end. At the end it returns end with
// p.Present unset; a last ';' with nothing behind it, as some phones write, is
// the end, too. It returns -1 when what is there is no parameter.
func scanParam(buf []byte, i, end int, p *Param) int {
	p.Present = false
	if i = skipLWS(buf, i, end); i == end {
		return end
	}
	if buf[i] != ';' {
		return -1
	}
	whole := i
	name := skipLWS(buf, i+1, end)
	for i = name; i < end && class[buf[i]]&(cEqual|cDelim) == 0; i++ {
	}
	if i == name {
		if i == end {
			return end
		}
		return -1
	}
	p.Present, p.Name = true, span(name, i)
	p.Whole, p.Value = span(whole, i), span(i, i)
	if i = skipLWS(buf, i, end); i == end || buf[i] != '=' {
		return paramEnd(buf, i, end)
	}
	value := skipLWS(buf, i+1, end)
	i = value
	if i < end && buf[i] == '"' {
		if i = skipQuoted(buf, i, end); i < 0 {
			return -1
		}
	} else {
		i = until(buf, i, end, cDelim)
	}
	if i == value { // ";name =": the value is where the '=' ends
		value = trimLWS(buf, whole, value)
		i = value
	}
	p.Value, p.Whole.End = span(value, i), uint32(i)
	return paramEnd(buf, skipLWS(buf, i, end), end)
}

// paramEnd makes sure that a parameter is followed by another one or by the end.
func paramEnd(buf []byte, i, end int) int {
	if i < end && buf[i] != ';' {
		return -1
	}
	return i
}

// findParam looks for a header parameter; name is in lower case.
func findParam(buf []byte, s Span, name string) (p Param, ok bool) {
	for i := int(s.Off); ; {
		if i = scanParam(buf, i, int(s.End), &p); i < 0 || !p.Present {
			return Param{}, false
		}
		if p.Name.Is(buf, name) {
			return p, true
		}
	}
}
