package tftp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"sipward/policy"
	"sipward/policy/event"
	"sipward/policy/gate"
	"sipward/tftp/wire"
)

// packet is a datagram that came to a listener.
type packet struct {
	data  []byte
	src   netip.AddrPort
	local netip.Addr // that it was sent to
	now   int64
}

// receive handles requests until the listener is closed.
func (s *Server) receive(l *listener) {
	b, oob := make([]byte, wire.MaxRequest+1), make([]byte, 128)
	for {
		n, control, _, src, err := l.conn.ReadMsgUDPAddrPort(b, oob)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		p := packet{data: b[:n], src: netip.AddrPortFrom(src.Addr().Unmap(), src.Port()), local: l.addr.Addr(), now: time.Now().UnixNano()}
		reason, would := s.handle(l, &p, oob[:control])
		s.cfg.Engine.Count(s.cfg.Worker, reason)
		if s.cfg.Events.Active() {
			s.publish(&p, reason, would)
		}
	}
}

// handle decides what becomes of a request. It does not allocate until the request has
// passed the gate and the limits.
func (s *Server) handle(l *listener, p *packet, control []byte) (reason, would policy.Reason) {
	addr := p.src.Addr().WithZone("")
	e := s.cfg.Engine
	v := e.Gate().Check(addr, p.now)
	if v == gate.DropFlood {
		v = e.Flooded(p.src, policy.UDP, p.now)
	}
	if !v.Pass() {
		return policy.FromGate(v).Reason, 0
	}
	judged := v == gate.Pass || v == gate.PassTrusted
	var r wire.Request
	if f := r.Parse(p.data); f != wire.OK {
		return policy.ReasonMalformed, e.Malformed(p.src, policy.UDP, f.String(), p.now).Would
	}
	rules := s.live.Load()
	if judged {
		if reason, would = s.limit(rules, addr, p.now); reason != policy.ReasonNone {
			return reason, 0
		}
	}
	if reason := s.refuse(l, rules, p, &r); reason != policy.ReasonNone {
		return reason, 0
	}
	if t := s.transfers.repeated(p.src, p.data); t != nil {
		t.again()
		return policy.FromGate(v).Reason, would
	}
	if judged && rules.Strangers > 0 && e.Standing(addr, p.now) == policy.Stranger &&
		!s.strangers.Allow(netip.IPv4Unspecified(), p.now, rules.strangers) {
		return policy.ReasonTFTPBusy, 0
	}
	if l.wildcard {
		p.local = sentTo(control)
	}
	if !s.start(rules, p, &r) {
		return policy.ReasonTFTPBusy, 0
	}
	return policy.FromGate(v).Reason, would
}

// limit holds a request against what its source may ask for.
func (s *Server) limit(rules *live, addr netip.Addr, now int64) (reason, would policy.Reason) {
	a := rules.limiter.ask(addr, now)
	watches := rules.Action.Kind == policy.ActionWatch || rules.Action.Kind == policy.ActionNotify
	if rules.Threshold <= 0 {
		a = admission{pass: !a.refused, refused: a.refused}
	}
	if a.freed && !watches {
		s.tellCalm(addr, now)
	}
	if a.entered {
		s.tellLimit(rules, addr, now)
	}
	switch {
	case a.refused:
		return policy.ReasonEnumeration, 0
	case a.pass:
		return policy.ReasonNone, 0
	case watches:
		return policy.ReasonNone, policy.ReasonTFTPLimit
	}
	return policy.ReasonTFTPLimit, 0
}

// tellLimit tells that a source is limited from now on, and bans it if that is the action.
func (s *Server) tellLimit(rules *live, addr netip.Addr, now int64) {
	e := s.cfg.Engine
	e.Exhibit(addr, policy.ReasonTFTPLimit, "RRQ", "", false, now)
	e.Charge(&policy.Offence{
		Source: addr, Reason: policy.ReasonTFTPLimit, Action: rules.Action,
		Count: rules.Threshold + 1, Period: rules.Period, Detail: "requests for files",
	}, now)
	if rules.Action.Kind == policy.ActionWatch || rules.Action.Kind == policy.ActionNotify {
		return
	}
	e.Tell(policy.Notice{
		Time: now, Kind: policy.NoticeRequestLimit, Reason: policy.ReasonTFTPLimit, Source: addr,
		Text: fmt.Sprintf("More than %d requests for files within %s: limited to %d a minute until it has kept to that for %[2]s. "+
			"If it is an office whose phones start all at once, raise tftp.threshold or allow it.", rules.Threshold, policy.Lasting(rules.Period), rules.LimitedRate),
		Commands: []string{"sipward explain " + addr.String(), "sipward ban " + addr.String(), "sipward allow " + addr.String()},
	})
}

func (s *Server) tellCalm(addr netip.Addr, now int64) {
	s.cfg.Engine.Tell(policy.Notice{
		Time: now, Kind: policy.NoticeRequestCalm, Reason: policy.ReasonTFTPLimit, Source: addr,
		Text:     "It asks for files no more often than allowed, and is limited no more.",
		Commands: []string{"sipward explain " + addr.String()},
	})
}

// refuse answers requests that no server is to see. The answer is no larger than such a
// request, or not by much, so it is of no use to those who forge its source.
func (s *Server) refuse(l *listener, rules *live, p *packet, r *wire.Request) policy.Reason {
	reason, text := policy.ReasonNone, ""
	switch f := wire.CheckName(r.Name); {
	case f == wire.NameAbsolute && rules.AllowAbsolute, f == wire.NameOK:
		if r.Write && !rules.AllowWrite {
			reason, text = policy.ReasonTFTPWrite, "read only"
		}
	default:
		reason, text = policy.ReasonTFTPPath, f.String()
	}
	if reason == policy.ReasonNone {
		return reason
	}
	addr, method := p.src.Addr().WithZone(""), wire.OpOf(p.data).String()
	e := s.cfg.Engine
	e.Exhibit(addr, reason, method, string(r.Name), false, p.now)
	if reason == policy.ReasonTFTPPath {
		e.Charge(&policy.Offence{Source: addr, Reason: reason, Action: rules.Action, Detail: "a file name that leads astray: " + text}, p.now)
	}
	_, _ = l.conn.WriteToUDPAddrPort(wire.AppendError(nil, wire.ErrAccess, text), p.src)
	return reason
}

// start makes a transfer, and sends the request to the server.
func (s *Server) start(rules *live, p *packet, r *wire.Request) bool {
	t := &transfer{
		s: s, client: p.src, source: source(p.src.Addr().WithZone(""), s.cfg.IPv6Bits),
		good:    s.cfg.Engine.Standing(p.src.Addr().WithZone(""), p.now) != policy.Stranger,
		request: append([]byte(nil), p.data...), write: r.Write, options: r.Options, started: p.now,
		relay: relay{
			blockSize: wire.DefaultBlockSize, window: 1, idle: int64(rules.IdleTimeout),
			patience: max(int64(rules.IdleTimeout), 3*int64(r.Options.Timeout)*int64(time.Second)),
		},
	}
	t.file = t.request[2 : 2+len(r.Name)]
	if err := t.open(p.local); err != nil {
		s.stats.sockets.Add(1)
		return false
	}
	evicted, ok := s.transfers.add(t, rules.MaxTransfers, rules.MaxPerSource)
	if evicted != nil {
		evicted.cut(&s.stats.evicted)
	}
	if !ok {
		t.in.Close()
		t.out.Close()
		return false
	}
	s.stats.started.Add(1)
	s.wg.Add(2)
	go t.relayUp()
	go t.relayDown()
	t.ask()
	return true
}

// open makes the two sockets of a transfer.
func (t *transfer) open(local netip.Addr) error {
	var err error
	from := net.UDPAddrFromAddrPort(netip.AddrPortFrom(local, 0))
	if t.out, err = net.DialUDP(network(t.client.Addr()), from, net.UDPAddrFromAddrPort(t.client)); err != nil {
		return err
	}
	if t.in, err = net.ListenUDP(network(t.s.cfg.Upstream.Addr()), nil); err != nil {
		t.out.Close()
	}
	return err
}

// sentTo finds the address that a packet was sent to in its control data.
func sentTo(control []byte) netip.Addr {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return netip.Addr{}
	}
	for _, m := range messages {
		switch d := m.Data; {
		case m.Header.Level == unix.IPPROTO_IP && m.Header.Type == unix.IP_PKTINFO && len(d) >= unix.SizeofInet4Pktinfo:
			return netip.AddrFrom4([4]byte(d[4:8])) // ipi_spec_dst, which answers may come from
		case m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_PKTINFO && len(d) >= unix.SizeofInet6Pktinfo:
			a := netip.AddrFrom16([16]byte(d[:16]))
			if a.IsLinkLocalUnicast() {
				a = a.WithZone(strconv.Itoa(int(binary.NativeEndian.Uint32(d[16:]))))
			}
			return a
		}
	}
	return netip.Addr{}
}

// missed notes that a source has asked for a file that is not there.
func (s *Server) missed(t *transfer, now int64) {
	rules, e, addr := s.live.Load(), s.cfg.Engine, t.client.Addr().WithZone("")
	if rules.Missing <= 0 || e.Standing(addr, now) >= policy.Trunk {
		return
	}
	e.Exhibit(addr, policy.ReasonEnumeration, "RRQ", string(t.file), false, now)
	n := rules.limiter.miss(addr, t.file, rules.Missing, now)
	if n == 0 {
		return
	}
	until := e.Charge(&policy.Offence{
		Source: addr, Reason: policy.ReasonEnumeration, Action: rules.MissingAction,
		Count: n, Period: rules.Period, Detail: "names of files that do not exist", StandIn: rules.Period,
	}, now)
	if until > 0 {
		rules.limiter.refuse(addr, until)
	}
}

// publish shows what became of a request.
func (s *Server) publish(p *packet, reason, would policy.Reason) {
	ev := event.Event{Time: p.now, Source: p.src, Protocol: event.TFTP, Transport: policy.UDP, Reason: reason, Verdict: policy.Drop, Method: "RRQ"}
	switch reason {
	case policy.ReasonPass, policy.ReasonAllowList, policy.ReasonPBX, policy.ReasonTrunk:
		ev.Verdict = policy.Pass
	case policy.ReasonTFTPPath, policy.ReasonTFTPWrite:
		ev.Verdict = policy.Reject
	}
	var r wire.Request
	switch {
	case r.Parse(p.data) != wire.OK:
		ev.Method = ""
	case r.Write:
		ev.Method = "WRQ"
	}
	ev.Detail.Set(r.Name)
	if would != policy.ReasonNone {
		ev.Detail.SetString("would be " + would.String() + ": " + string(r.Name))
	}
	s.cfg.Events.Publish(&ev)
}
