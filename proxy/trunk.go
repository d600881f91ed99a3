package proxy

import (
	"bytes"
	"context"
	"encoding/binary"
	"net/netip"
	"sync"
	"time"

	"sipward/policy"
	"sipward/proxy/flow"
	"sipward/proxy/netio"
	"sipward/proxy/upstream/resolve"
	"sipward/sip"
)

// toTrunk sends a PBX's request to wherever its URI leads: sipward is then the
// PBX's outbound proxy. Only PBXes get here.
func (t *task) toTrunk(b *branch, pbx uint16) {
	r := &t.route
	if t.namesUs(&r.next) {
		t.toUs()
		return
	}
	if !isSIP(&r.next) {
		t.refuse(416, "Unsupported URI Scheme", policy.ReasonBadScheme)
		return
	}
	h, ok, wait := t.hopToURI(&r.next, b)
	if wait {
		t.later()
		return
	}
	if !ok && r.next.Kind == sip.SchemeSIPS && t.refuseInsecure(nil) {
		return
	}
	if !ok {
		t.refuse(503, "Service Unavailable", policy.ReasonUnknownDestination)
		return
	}
	if t.refuseInsecure(&h) {
		return
	}
	if h.conn == nil {
		t.noteCaller(h.addr.Addr().WithZone(""))
	}
	via := t.flowToken(flow.KindVia, pbx)
	via.Follow = true
	if t.m.Method == sip.MethodRegister {
		if fault := t.leadBack(&h, &via); fault != sip.OK {
			t.malformed(fault)
			return
		}
	}
	if !createsDialog(&t.m) {
		t.transmit(&h, b, &via, nil, nil)
		return
	}
	rr := flow.Token{
		Kind: flow.KindRoute, Side: flow.Outside, Follow: true, PBX: pbx,
		Listener: uint8(h.ep.listener), Addr: h.addr, Stream: h.conn != nil,
	}
	t.transmit(&h, b, &via, &rr, nil)
}

// toUs answers a request that a PBX addressed to sipward itself: it may ask whether
// we live (as it does for an outbound proxy), and nothing else.
func (t *task) toUs() {
	if t.m.Method == sip.MethodOptions {
		t.note(policy.Reject, policy.ReasonToUs, "")
		t.answer(200, "OK", "")
		return
	}
	user := t.m.URI.User.Of(t.m.Buf)
	if flow.Resembles(user[lastMark(user)+1:]) {
		t.refuse(430, "Flow Failed", policy.ReasonForgedToken) // the contact of before the key was replaced
		return
	}
	t.refuse(404, "Not Found", policy.ReasonNoRoute)
}

// hopToURI resolves a URI (RFC 3263). wait says that this takes a look-up or a
// connection, which only the slow lane may wait for.
func (t *task) hopToURI(uri *sip.URI, b *branch) (h hop, ok, wait bool) {
	buf := t.m.Buf
	transport, lookUp, ok := t.trunkTransport(uri)
	if !ok || transport == policy.TLS && t.s.cfg.TrunkTLS == nil {
		return h, false, false
	}
	seed := binary.LittleEndian.Uint64(b[:8]) // one transaction keeps to one target
	host := uri.Host.Of(buf)
	if !t.mayBlock {
		target, hit := t.s.resolver.Cached(host, uint16(uri.Port), lookUp, seed)
		if !hit {
			return h, false, true
		}
		return t.hopToTarget(target.Addr, transport, host)
	}
	ctx, cancel := context.WithTimeout(t.s.ctx, t.s.cfg.LookupTimeout)
	defer cancel()
	targets, err := t.s.resolver.Lookup(ctx, string(host), uint16(uri.Port), lookUp, seed)
	if err != nil {
		return h, false, false
	}
	for _, target := range targets {
		if h, ok, _ = t.hopToTarget(target.Addr, transport, host); ok {
			return h, true, false
		}
	}
	return h, false, false
}

// trunkTransport returns what a trunk is spoken to over, in the words of policy and of the
// resolver: what the URI says, or else what is as reliable as the PBX's request was. ok is
// false for what no trunk is spoken to over.
func (t *task) trunkTransport(uri *sip.URI) (transport policy.Transport, lookUp resolve.Transport, ok bool) {
	p, found := uri.Param(t.m.Buf, "transport")
	name := p.Value.Of(t.m.Buf)
	switch {
	case uri.Kind == sip.SchemeSIPS, found && bytes.EqualFold(name, []byte("tls")):
		return policy.TLS, resolve.TLS, true
	case found && bytes.EqualFold(name, []byte("tcp")), !found && t.from.reliable():
		return policy.TCP, resolve.TCP, true
	case found && bytes.EqualFold(name, []byte("udp")), !found:
		return policy.UDP, resolve.UDP, true
	}
	return 0, 0, false
}

// hopToTarget makes the hop to one address of a trunk, that of host.
func (t *task) hopToTarget(addr netip.AddrPort, transport policy.Transport, host []byte) (h hop, ok, wait bool) {
	ep := t.s.eps.find(transport, flow.Outside, addr.Addr())
	if ep == nil {
		return h, false, false
	}
	h = hop{face: face{ep: ep, towards: flow.Outside}, addr: addr}
	if transport == policy.UDP {
		if h.local, ok = t.s.localTo(ep, addr.Addr()); !ok {
			return h, false, false
		}
		if t.m.Method == sip.MethodAck || !t.s.resolver.Sent(addr, t.now) {
			return h, true, false
		}
		if _, alone := resolve.Numeric(host); !alone {
			t.s.knockLater(&h, t.now)
		}
		return h, true, false
	}
	if transport != policy.TLS {
		host = nil // whoever answers at the address is meant
	}
	h.conn = t.s.trunks.get(addr, host)
	if h.conn == nil && !t.mayBlock {
		return h, false, true
	}
	if h.conn == nil {
		conn, err := t.s.dialTrunk(trunkKey{addr, string(host)}, ep)
		if err != nil {
			t.s.log.Warn("trunk refuses a connection", "trunk", addr.String(), "error", err)
			t.s.resolver.Failed(addr, t.now)
			return h, false, false
		}
		h.conn = conn
	}
	h.local = h.conn.Local().Addr()
	return h, true, false
}

// dialTrunk connects to a trunk, unless somebody else has meanwhile.
func (s *Server) dialTrunk(key trunkKey, ep *endpoint) (*netio.Conn, error) {
	st := &stream{side: flow.Outside, ep: ep, trunk: key}
	var conn *netio.Conn
	var err error
	if ep.transport == policy.TLS {
		conn, err = s.tcp.DialTLS(s.ctx, s, ep.source(), key.addr, s.cfg.TrunkTLS(key.name), s.cfg.DialTimeout, st)
	} else {
		conn, err = s.tcp.Dial(s.ctx, s, ep.source(), key.addr, s.cfg.DialTimeout, st)
	}
	if err != nil {
		return nil, err
	}
	return s.trunks.put(key, conn), nil
}

// later hands a copy of the message at hand to the slow lane, which does the same
// work but may wait. The lane is bounded; UDP is sent again by the PBX.
func (t *task) later() {
	select {
	case t.s.slow <- struct{}{}:
	default:
		t.refuse(503, "Service Unavailable", policy.ReasonQueueFull)
		return
	}
	msg, from := bytes.Clone(t.m.Buf), t.from
	t.s.background.Go(func() { t.s.handleSlowly(msg, from) })
}

func (s *Server) handleSlowly(msg []byte, from origin) {
	defer func() { <-s.slow }()
	t := s.tasks.Get().(*task)
	defer s.tasks.Put(t)
	t.begin(s.now())
	t.from = from
	t.mayBlock = true
	defer func() { t.mayBlock = false }()
	t.handle(msg)
}

// slowLane is how many messages may wait for a name or a connection at a time.
const slowLane = 64

// trunkConns are the connections that we dialled to trunks.
type trunkConns struct {
	mu   sync.Mutex
	conn map[trunkKey]*netio.Conn
}

// A trunkKey says whose connection it is: one over TLS is for whom its certificate is for.
type trunkKey struct {
	addr netip.AddrPort
	name string // host of the URI, for TLS
}

func (c *trunkConns) get(addr netip.AddrPort, name []byte) *netio.Conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.conn[trunkKey{addr, string(name)}]
}

// put keeps conn for key, or closes it and returns the one that is there already.
func (c *trunkConns) put(key trunkKey, conn *netio.Conn) *netio.Conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	if old := c.conn[key]; old != nil {
		conn.Close(errPeerClosed)
		return old
	}
	if c.conn == nil {
		c.conn = make(map[trunkKey]*netio.Conn)
	}
	c.conn[key] = conn
	return conn
}

// drop forgets conn, which has closed.
func (c *trunkConns) drop(key trunkKey, conn *netio.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn[key] == conn {
		delete(c.conn, key)
	}
}

const lookupTimeout = 4 * time.Second
