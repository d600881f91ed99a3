package retransmit

import "sipward/sip"

func (e *entry) invite() bool { return e.key.Method == sip.MethodInvite }

// SendRequest keeps a request that is about to be sent to the UDP side, and sends it
// again until it is answered. It reports false if there is no room: the request must
// then be refused. An ACK is for SendAck.
func (t *Table) SendRequest(r *Request, now int64) bool {
	s := t.shard(&r.Key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.entries[r.Key]; old != nil {
		t.remove(s, old) // the client has begun anew, over another connection perhaps
	}
	e := t.add(s, r)
	if e == nil {
		return false
	}
	e.state, e.path = calling, r.Path
	e.repeat(now)
	e.last(now, lifetime)
	s.wheel.put(e)
	return true
}

// SendAck keeps an ACK that is about to be sent to the UDP side if it is one to a
// failure, which may have to be sent again. An ACK to a 2xx has a key of its own, and
// is not kept.
func (t *Table) SendAck(k Key, p Path, message []byte) {
	k = k.transaction()
	s := t.shard(&k)
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.entries[k]; e != nil && e.state == completed {
		e.path = p
		t.keep(e, message)
	}
}

// ReceiveResponse is told of a response from the UDP side and reports whether it is to be
// forwarded. One that is not is a repeat; if repeat is not empty it is the ACK that answers
// it, appended to dst, to be sent along p.
func (t *Table) ReceiveResponse(k Key, status int, now int64, dst []byte) (forward bool, repeat []byte, p Path) {
	s := t.shard(&k)
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[k]
	switch {
	case e == nil || e.state.fromUDP():
		return true, dst[:0], p
	case e.state == completed && e.invite() && status/100 == 2:
		return true, dst[:0], p
	case e.state == completed:
		t.absorbed.Add(1)
		return false, t.again(e, dst), e.path
	case status < 200:
		e.state = proceeding
		if e.invite() {
			t.drop(e) // it has arrived
			e.last(now, ringing)
		}
	case e.invite() && status < 300:
		t.remove(s, e)
		return true, dst[:0], p
	default:
		e.state = completed
		t.drop(e)
		if e.invite() {
			e.last(now, lifetime) // timer D
		} else {
			e.last(now, T4) // timer K
		}
	}
	s.wheel.put(e)
	return true, dst[:0], p
}

// again appends what is sent again to dst.
func (t *Table) again(e *entry, dst []byte) []byte {
	if e.message == nil {
		return dst[:0]
	}
	t.replayed.Add(1)
	return append(dst[:0], e.message.b...)
}
