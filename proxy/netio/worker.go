package netio

import "sync/atomic"

// udpWorker reads one socket of each listener, in turn, and sends on the same
// ones: the listeners share its wake-ups.
type udpWorker struct {
	stopping *atomic.Bool
	pace     *pacer
	inputs   []input
	out      *Output

	try  func(uintptr) bool
	more bool // the last round has left something
	err  error
}

// input is one listener as a worker sees it.
type input struct {
	r batchReader
	h DatagramHandler
	n int // packets of this round
}

func (w *udpWorker) run(ended chan<- error) {
	w.try = w.receive
	for {
		err := w.pace.wait(w.try)
		switch {
		case w.stopping.Load():
			ended <- nil
			return
		case err != nil:
			ended <- err
			return
		case w.err != nil:
			ended <- w.err
			return
		}
		for i := range w.inputs {
			if in := &w.inputs[i]; in.n > 0 {
				in.h.Datagrams(in.r.packets())
			}
		}
		w.out.Flush()
	}
}

func (w *udpWorker) close() {
	for i := range w.inputs {
		w.inputs[i].r.close()
	}
	if w.pace != nil {
		w.pace.close()
	}
}

// receive takes what is there on all sockets, if it is time to; false means
// wait. When it returns false while the sockets are busy it has read the
// timer, which would never tick again otherwise.
func (w *udpWorker) receive(uintptr) bool {
	for hurry := w.more; ; hurry = false {
		if w.pace.busy && !hurry && !w.pace.ticked() {
			return false
		}
		total := 0
		w.more = false
		for i := range w.inputs {
			n, more, err := w.inputs[i].r.receive()
			if err != nil {
				w.err = err
				return true
			}
			w.inputs[i].n = n
			total += n
			w.more = w.more || more
		}
		busy := w.pace.busy
		w.pace.note(total)
		if total > 0 || w.more {
			return true
		}
		// What came since, and before the poller was told to report the sockets again, it need
		// not report: they may still stand in its list of those that are ready.
		idleAgain := busy && !w.pace.busy
		if !idleAgain && (!w.pace.busy || !hurry) {
			return false
		}
	}
}
