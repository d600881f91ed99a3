package netio

import (
	"bytes"
	"time"
)

// No honest peer sends more keep-alives (pings, pongs, and messages that hold
// nothing) than maxKeepAlives in keepAlivePeriod, where they are more than a few
// bytes of a stream.
const (
	maxKeepAlives   = 50
	keepAlivePeriod = 10 * time.Second
)

var doubleCRLF = []byte("\r\n\r\n")

// whole takes what came as one: a message, or a keep-alive (RFC 5626 §4.4.1).
func (c *Conn) whole(msg []byte, now time.Time) {
	if len(msg) <= len(doubleCRLF) && bytes.HasPrefix(doubleCRLF, msg) {
		c.keepAlive(now)
		if len(msg) == len(doubleCRLF) {
			_ = c.Send(crlf)
		}
		return
	}
	c.in.waiting = false
	c.t.counters.messages.Add(1)
	c.h.Message(c, msg)
}

// keepAlive is called by the reader for each.
func (c *Conn) keepAlive(now time.Time) {
	c.t.counters.pings.Add(1)
	in := &c.in
	if now.Sub(in.since) > keepAlivePeriod {
		in.since, in.keepAlives = now, 0
	}
	if in.keepAlives++; in.keepAlives > maxKeepAlives {
		c.Close(ErrKeepAlive)
	}
}
