//go:build linux

package load

import "bytes"

// answer is what a response's first lines say about the request of ours that it answers.
type answer struct {
	status int
	run    uint32
	seq    uint32
	kind   byte // of our branch: r REGISTER, i INVITE, a ACK, b BYE
}

// parseAnswer reads status, top Via and Call-ID. The top Via must be ours, the only one, and of the
// same transaction as the Call-ID: the edge must have stripped its own and mixed up nothing.
func parseAnswer(b []byte) (a answer, ok bool) {
	const head = "SIP/2.0 "
	line, rest := cutLine(b)
	if len(line) < len(head)+3 || string(line[:len(head)]) != head {
		return a, false
	}
	a.status = int(line[8]-'0')*100 + int(line[9]-'0')*10 + int(line[10]-'0')
	// Kamailio writes Record-Route above Via, and the responder keeps that order.
	for line, rest = cutLine(rest); bytes.HasPrefix(line, []byte("Record-Route:")); line, rest = cutLine(rest) {
	}
	if !bytes.HasPrefix(line, []byte("Via: ")) || bytes.HasPrefix(rest, []byte("Via:")) {
		return a, false
	}
	i := bytes.Index(line, []byte(";branch="+branchHead))
	if i < 0 || len(line) < i+len(";branch="+branchHead)+18 {
		return a, false
	}
	branch := line[i+len(";branch="+branchHead):]
	var ok1, ok2 bool
	a.run, ok1 = hex32(branch[:8])
	a.kind = branch[8]
	a.seq, ok2 = hex32(branch[10:18])
	if !ok1 || !ok2 {
		return a, false
	}
	i = bytes.Index(rest, []byte("Call-ID: "))
	if i < 0 || len(rest) < i+len("Call-ID: ")+16 {
		return a, false
	}
	id := rest[i+len("Call-ID: "):]
	return a, string(id[:8]) == string(branch[:8]) && string(id[8:16]) == string(branch[10:18])
}

// dialog is what requests within a dialog copy from the 200 to INVITE (RFC 3261 §12.1.2).
type dialog struct {
	target           []byte // the Contact's URI
	route            [8][]byte
	routes           int
	from, to, callID []byte // whole lines
}

func parseDialog(b []byte) (d dialog, ok bool) {
	_, rest := cutLine(b)
	for len(rest) > 0 {
		at := rest
		var line []byte
		line, rest = cutLine(rest)
		whole := at[:len(line)+2]
		switch {
		case len(line) == 0:
			return d, d.target != nil && d.from != nil && d.to != nil && d.callID != nil
		case bytes.HasPrefix(line, []byte("Contact: ")):
			l, r := bytes.IndexByte(line, '<'), bytes.IndexByte(line, '>')
			if l < 0 || r < l {
				return d, false
			}
			d.target = line[l+1 : r]
		case bytes.HasPrefix(line, []byte("Record-Route: ")):
			if d.routes == len(d.route) {
				return d, false
			}
			d.route[d.routes] = line[len("Record-Route: "):]
			d.routes++
		case bytes.HasPrefix(line, []byte("From: ")):
			d.from = whole
		case bytes.HasPrefix(line, []byte("To: ")):
			d.to = whole
		case bytes.HasPrefix(line, []byte("Call-ID: ")):
			d.callID = whole
		}
	}
	return d, false
}

func hex32(s []byte) (v uint32, ok bool) {
	for _, c := range s {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		default:
			return 0, false
		}
		v = v<<4 | uint32(c)
	}
	return v, true
}
