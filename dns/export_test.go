package dns

import (
	"time"
)

// Answer is what is said over both transports to a question, given a reply; nil if the
// question is refused or the reply.
func Answer(ask, reply []byte, prot Protection) (udp, tcp []byte) {
	var q query
	if q.parse(ask) != 0 {
		return nil, nil
	}
	sent := newMessage(&question{name: string(q.name()), qtype: q.qtype}, prot != Off, true)
	if len(reply) >= headerSize { // as if a forger had guessed it
		copy(reply, sent[:2])
	}
	if match(sent, reply) != nil {
		return nil, nil
	}
	name := string(q.name())
	a, err := read(&question{name, nameText(name), q.qtype}, reply, &Settings{Protection: prot})
	if err != nil {
		return nil, nil
	}
	e, _, err := makeEntry(name, q.qtype, a, prot, 0)
	if err != nil {
		return nil, nil
	}
	return e.appendUDP(nil, &q.asker, 0), e.appendTCP(nil, &q.asker, 0)
}

// Hitter answers questions as a UDP worker does.
func (s *Server) Hitter() func(b []byte) []byte {
	c := &udpClient{socket: s.udp[0], addr: s.udp[0].addr}
	q, out := new(query), make([]byte, 0, maxUDP)
	return func(b []byte) []byte { return s.handle(c, b, q, out[:0], time.Now().UnixNano()) }
}
