package dns

import (
	"time"
)

// Path is the way of a reply without sockets, for tests: what is sent to the upstream, and
// what the client gets for its reply.
type Path struct{ s *Server }

// NewPath makes a path to a server that is not run.
func NewPath(s *Server) Path { return Path{s} }

// Answer is what is said over both transports to a question, given a reply; nil if the
// question is refused or the reply.
func (p Path) Answer(ask, reply []byte, prot Protection) (udp, tcp []byte, sent []byte) {
	var q query
	if q.parse(ask) != 0 {
		return nil, nil, nil
	}
	sent = newMessage(&question{name: string(q.name()), qtype: q.qtype}, prot != Off, true)
	if len(reply) >= headerSize { // as if a forger had guessed it
		copy(reply, sent[:2])
	}
	if match(sent, reply) != nil {
		return nil, nil, sent
	}
	name := string(q.name())
	a, err := read(&question{name, nameText(name), q.qtype}, reply, &Settings{Protection: prot})
	if err != nil {
		return nil, nil, sent
	}
	e, _, err := makeEntry(name, q.qtype, a, prot, 0)
	if err != nil {
		return nil, nil, sent
	}
	return e.appendUDP(nil, &q.asker, 0), e.appendTCP(nil, &q.asker, 0), sent
}

// Hit answers a question as a UDP worker does.
func (s *Server) Hit(b, dst []byte) []byte {
	var q query
	return s.handle(&udpClient{socket: s.udp[0], addr: s.udp[0].addr}, b, &q, dst, time.Now().UnixNano())
}
