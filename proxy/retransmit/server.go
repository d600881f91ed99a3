package retransmit

// A Verdict is what becomes of a request from the UDP side.
type Verdict uint8

const (
	Forward Verdict = iota // it is new
	Absorb                 // it is a repeat
	Refuse                 // there is no room
)

// ReceiveRequest is told of a request from the UDP side. Of one to Absorb the last
// response, if there was one, is appended to dst, to be sent along p. A request is
// forwarded once more while it has no response and the connection (Flow) is another one,
// and if there is none any more. An ACK is for ReceiveAck or ReceiveSuccessAck.
func (t *Table) ReceiveRequest(r *Request, now int64, dst []byte) (v Verdict, repeat []byte, p Path) {
	s := t.shard(&r.Key)
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[r.Key]
	switch {
	case e != nil && !e.state.fromUDP():
		return Forward, dst[:0], p
	case e != nil && e.state == asked && e.message == nil && r.Flow != e.flow:
		e.flow = r.Flow
		if r.Flow == 0 {
			t.remove(s, e)
		}
		return Forward, dst[:0], p
	case e != nil:
		t.absorbed.Add(1)
		return Absorb, t.again(e, dst), e.path
	case r.Flow == 0:
		return Forward, dst[:0], p
	}
	if e = t.add(s, r); e == nil {
		return Refuse, dst[:0], p
	}
	e.state, e.flow = asked, r.Flow
	e.last(now, lifetime)
	s.wheel.put(e)
	return Forward, dst[:0], p
}

// Forget drops what is known of a request that could not be forwarded after all.
func (t *Table) Forget(k Key) {
	s := t.shard(&k)
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.entries[k]; e != nil {
		t.remove(s, e)
	}
}

// SendResponse keeps a response that is about to be sent to the UDP side. success is what
// ReceiveSuccessAck will be given when a 2xx to an INVITE is acknowledged: the same for both,
// a keyed hash of Call-ID, CSeq number and tags.
func (t *Table) SendResponse(k Key, status int, success uint64, p Path, message []byte, now int64) {
	s := t.shard(&k)
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[k]
	if e == nil || e.state != asked {
		return // what comes after the final response is repeated by who sends it
	}
	e.path = p
	kept := t.keep(e, message)
	switch {
	case status < 200:
		if e.invite() {
			e.last(now, ringing)
		}
	case !e.invite():
		e.state = answered
		e.last(now, lifetime) // timer J
	default:
		e.state = answered
		if status < 300 {
			e.state = accepted
			t.success.remember(e, success)
		}
		if kept {
			e.repeat(now) // timer G
		}
		e.last(now, lifetime) // timers H and L
	}
	s.wheel.put(e)
}

// ReceiveAck is told of an ACK to a failure from the UDP side, and reports whether it is
// to be forwarded.
func (t *Table) ReceiveAck(k Key, now int64) (forward bool) {
	k = k.transaction()
	s := t.shard(&k)
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[k]
	switch {
	case e == nil:
		return true
	case e.state == confirmed:
		t.absorbed.Add(1)
		return false
	case e.state == answered:
		e.state = confirmed
		t.drop(e)
		e.last(now, T4) // timer I
		s.wheel.put(e)
	}
	return true
}

// ReceiveSuccessAck is told of an ACK to a 2xx, which is forwarded each time it comes.
func (t *Table) ReceiveSuccessAck(success uint64) {
	k, ok := t.success.find(success)
	if !ok {
		return
	}
	s := t.shard(&k)
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.entries[k]; e != nil && e.state == accepted && e.success == success {
		e.state = confirmed // until timer L ends, for repeats of the INVITE
		t.drop(e)
		s.wheel.put(e)
	}
}
