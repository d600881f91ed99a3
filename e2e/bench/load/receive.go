//go:build linux

package load

import (
	"bytes"
	"errors"
	"runtime"
	"sync/atomic"
	"time"

	"sipward/e2e/bench/mmsg"
)

// receiver matches answers and sends what follows them (credentials, ACK, BYE).
type receiver struct {
	g        *Generator
	out      *mmsg.Batch
	target   uint64
	followed []uint8 // by sequence number: how far the exchange has come
	second   *first  // the REGISTER with credentials of Challenge

	complete   atomic.Int64
	late       int
	unexpected int
	refused    int
	latency    histogram
}

func newReceiver(g *Generator) *receiver {
	r := &receiver{
		g:        g,
		out:      mmsg.NewBatch(2 * maxBatch),
		target:   mmsg.Pack(g.cfg.Target),
		followed: make([]uint8, g.total),
	}
	text := finish(register(g.cfg.Target, "2", secretTail, credentials(g.cfg.Target)), &g.cfg, g.run)
	r.second = &first{text: []byte(text), seqs: places(text, markSeq), sources: places(text, "AAA.BBB"), users: places(text, markUser)}
	return r
}

func (r *receiver) loop(done chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	in := mmsg.NewBatch(maxBatch)
	for !r.g.stop.Load() {
		n, err := r.g.sock.Receive(in)
		if errors.Is(err, mmsg.ErrTimeout) {
			continue
		}
		if err != nil {
			done <- err
			return
		}
		now, out := r.g.now(), 0
		for i := range n {
			out += r.take(in.Data(i), out, now)
		}
		if out > 0 {
			r.refused += r.g.sock.Send(r.out, 0, out)
		}
	}
	done <- nil
}

// Steps of an exchange, in receiver.followed.
const (
	opened   = 0
	answered = 1 // the challenge or the INVITE was answered, and what follows was sent
	finished = 2
)

// take matches one answer and puts what follows it into r.out from slot at on; it returns how many.
func (r *receiver) take(data []byte, at int, now int64) int {
	a, ok := parseAnswer(data)
	if !ok || a.run != r.g.run || int(a.seq) >= len(r.followed) || r.g.sentAt[a.seq].Load() == 0 {
		// A former run's straggler is not this one's fault.
		if !ok || a.run == r.g.run {
			r.unexpected++
		}
		return 0
	}
	step := &r.followed[a.seq]
	switch {
	case a.status < 200:
		return 0
	case a.status == 401 && a.kind == 'r' && *step == opened && r.g.cfg.Flow == Challenge:
		*step = answered
		return r.authorize(a, at)
	case a.status == 200 && a.kind == 'i' && *step == opened:
		*step = answered
		return r.hangUp(a, data, at)
	case a.status == 200 && *step != finished && (a.kind == 'b' || a.kind == 'r' && *step == r.last()):
		*step = finished
		r.finish(now - r.g.sentAt[a.seq].Load())
	default:
		r.unexpected++
	}
	return 0
}

// last is the step in which a REGISTER's 200 ends the exchange.
func (r *receiver) last() uint8 {
	if r.g.cfg.Flow == Challenge {
		return answered
	}
	return opened
}

func (r *receiver) finish(took int64) {
	if time.Duration(took) > T1 {
		r.late++
	}
	r.latency.add(time.Duration(took))
	r.complete.Add(1)
}

// address finishes slot i of r.out.
func (r *receiver) address(i int, a answer, size int) {
	r.out.Set(i, 0, size)
	r.out.SetPeer(i, r.target)
	r.out.SetSource(i, r.g.phone(a.seq).source)
}

func (r *receiver) authorize(a answer, at int) int {
	slot := r.out.Slot(at)
	r.second.fill(slot)
	r.second.patch(slot, a.seq, r.g.phone(a.seq))
	r.address(at, a, r.second.size())
	return 1
}

// hangUp writes the ACK to a 200 and the BYE that follows at once, along the recorded route.
func (r *receiver) hangUp(a answer, data []byte, at int) int {
	d, ok := parseDialog(data)
	if !ok {
		r.unexpected++
		return 0
	}
	src := sourceAddr(r.g.phone(a.seq).source)
	for i, m := range [2]struct{ method, branch, cseq string }{{"ACK", "a1", "1"}, {"BYE", "b1", "2"}} {
		b := r.out.Slot(at + i)[:0]
		b = append(append(b, m.method...), ' ')
		b = append(append(b, d.target...), " SIP/2.0\r\nVia: SIP/2.0/UDP "...)
		b = append(src.AppendTo(b), ':')
		b = appendDecimal(b, r.g.cfg.Port)
		b = append(append(b, ";branch="...), branchHead...)
		b = append(appendHex(b, r.g.run), m.branch...)
		b = append(appendHex(b, a.seq), ";rport\r\n"...)
		for j := d.routes - 1; j >= 0; j-- {
			b = append(append(b, "Route: "...), d.route[j]...)
			b = append(b, "\r\n"...)
		}
		b = append(append(b, "Max-Forwards: 70\r\n"...), d.from...)
		b = append(append(b, d.to...), d.callID...)
		b = append(append(b, "CSeq: "...), m.cseq...)
		b = append(append(b, ' '), m.method...)
		b = append(b, "\r\nUser-Agent: "+agent+"\r\nContent-Length: 0\r\n\r\n"...)
		r.address(at+i, a, len(b))
	}
	return 2
}

func appendHex(b []byte, v uint32) []byte {
	var d [8]byte
	putHex(d[:], v)
	return append(b, d[:]...)
}

func appendDecimal(b []byte, v uint16) []byte {
	if v >= 10 {
		b = appendDecimal(b, v/10)
	}
	return append(b, '0'+byte(v%10))
}

// cutLine cuts the first line off a message, without its line end.
func cutLine(b []byte) (line, rest []byte) {
	i := bytes.IndexByte(b, '\n')
	if i < 1 {
		return nil, nil
	}
	return b[:i-1], b[i+1:]
}
