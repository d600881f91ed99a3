package proxy

import (
	"sipward/policy"
	"sipward/policy/event"
	"sipward/policy/gate"
	"sipward/proxy/flow"
	"sipward/proxy/netio"
)

// A worker handles the datagrams of one socket.
type worker struct {
	task *task
	ep   *endpoint
}

var _ netio.DatagramHandler = (*worker)(nil)

func (s *Server) newWorker(listener, n int, out *netio.Output) netio.DatagramHandler {
	t := newTask(s, s.engine.Counters().Shard(1+n), s.times[s.workerOf(listener, n)])
	t.out, t.lane = out, s.newLane(listener, n)
	return &worker{task: t, ep: s.eps.udp[listener]}
}

// Datagrams implements netio.DatagramHandler.
func (w *worker) Datagrams(pkts []netio.Packet) {
	t := w.task
	t.begin(t.s.now())
	for i := range pkts {
		p := &pkts[i]
		from := &t.from
		*from = origin{}
		from.ep, from.local, from.port = w.ep, p.Local, p.LocalPort
		if p.Local.Is6() {
			from.local = p.Local.WithZone("")
		}
		from.peer, from.addr = p.Src, unzoned(p.Src)
		t.packet = p
		t.m.Buf = nil // nothing is known of the message yet
		if t.classify() {
			t.handle(p.Data)
		}
		t.measure()
	}
}

// begin readies the task for messages received at now.
func (t *task) begin(now int64) {
	t.now = now
	t.live = t.s.live.Load()
}

// classify finds out on which side the sender of a datagram stands, and asks the
// gate about strangers. It is the first thing that happens to a packet.
func (t *task) classify() bool {
	ep := t.from.ep
	if t.s.transit != nil {
		return t.classifyTransit()
	}
	if !ep.inside {
		return t.classifyOutside()
	}
	if pbx := t.s.pool.ByAddr(t.from.addr.Addr()); pbx != nil {
		pbx.Heard(t.now)
		t.from.side, t.from.towards = flow.Inside, flow.Inside
		return true
	}
	if !ep.outside {
		t.note(policy.Drop, policy.ReasonNotPBX, "")
		return false
	}
	return t.classifyOutside()
}

func (t *task) classifyOutside() bool {
	t.from.side, t.from.towards = flow.Outside, flow.Outside
	return t.admitted()
}

// admitted asks the gate about a message from outside.
func (t *task) admitted() bool {
	if t.from.certified {
		t.from.gate = gate.PassTrusted
		return true
	}
	t.from.gate = t.s.engine.Gate().Check(t.from.addr.Addr(), t.now)
	if t.from.gate == gate.DropFlood {
		t.from.gate = t.s.engine.Flooded(t.from.addr, t.from.ep.transport, t.now)
	}
	if !t.from.gate.Pass() {
		d := policy.FromGate(t.from.gate)
		t.note(d.Verdict, d.Reason, "")
		return false
	}
	if t.lane != nil && t.from.gate == gate.Pass && !t.inBudget() {
		t.note(policy.Drop, policy.ReasonOverload, "")
		return false
	}
	t.from.trunk = t.live.trunks.Contains(t.from.addr.Addr())
	return true
}

// inBudget reports whether a datagram from outside is a known source's, or within what
// strangers may send together.
func (t *task) inBudget() bool {
	o := &t.s.overload
	return o.limit.Load() == 0 && o.take(t.lane, t.now) ||
		t.s.engine.Standing(t.from.addr.Addr(), t.now) != policy.Stranger ||
		o.take(t.lane, t.now)
}

// publish shows a decision on the event bus.
func (t *task) publish(v policy.Verdict, r policy.Reason, detail string) {
	m := &t.m
	ev := &t.event
	*ev = event.Event{Time: t.now, Source: t.from.addr, Verdict: v, Reason: r}
	if t.from.ep != nil {
		ev.Transport = t.from.ep.transport
	}
	if t.from.side == flow.Inside {
		ev.Direction = event.FromPBX
	}
	if len(m.Buf) > 0 {
		ev.Client = t.client
		ev.Method, ev.Status = m.Method.String(), uint16(m.Status)
		ev.Account.Set(t.account)
	}
	ev.Detail.SetString(detail)
	t.s.events.Publish(ev)
}
