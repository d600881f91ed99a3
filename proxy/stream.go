package proxy

import (
	"errors"
	"net/netip"
	"sync"
	"time"

	"sipward/policy"
	"sipward/proxy/flow"
	"sipward/proxy/netio"
	"sipward/proxy/upstream"
	"sipward/sip"
)

// A phone's connection is paired with one of its own to the PBX, opened with its
// first request and closed with it: a PBX drops a Contact when its connection dies
// (RFC 5626 §5.3.1 describes the same), and must see exactly that and nothing else.

var (
	errPeerClosed = errors.New("proxy: the other side closed its connection")
	errClosing    = errors.New("proxy: connection is closing")
)

// A stream is what we know of a connection; it is the netio.Conn's value.
type stream struct {
	side flow.Side
	ep   *endpoint // that accepted it, or of its transport for one that we dialled
	// pair is, on a connection that we dialled to a PBX, the phone's connection.
	pair *netio.Conn
	// trunk is the key of a connection that we dialled to a trunk.
	trunk trunkKey
	// certified is set on a connection whose client has shown a trunk's certificate.
	certified bool
	vouched   int64 // when the policy was told last; the reader's own

	mu     sync.Mutex
	closed bool
	peers  []peer   // of an outside connection: one for each PBX that it needed
	keys   []uint64 // under which Streams remembers it
}

type peer struct {
	pbx  uint16
	conn *netio.Conn
}

// vouchEvery is how often the policy is told of a certified trunk that sends something.
const vouchEvery = int64(10 * time.Minute)

// maxKeys bounds what a connection can make us remember: a phone has few accounts.
const maxKeys = 16

var _ netio.StreamHandler = (*Server)(nil)

// Accept implements netio.StreamHandler.
func (s *Server) Accept(remote netip.AddrPort, listener int) bool {
	if s.draining.Load() {
		return false
	}
	ep := s.eps.conns[listener]
	if ep.inside && s.pool.Has(remote.Addr()) {
		return true
	}
	if !ep.outside {
		s.engine.Count(0, policy.ReasonNotPBX)
		return false
	}
	return s.engine.Gate().Standing(remote.Addr(), s.now()).Pass()
}

// Message implements netio.StreamHandler.
func (s *Server) Message(c *netio.Conn, msg []byte) {
	t := s.tasks.Get().(*task)
	defer s.tasks.Put(t)
	st := s.streamState(c)
	t.begin(s.now())
	t.from = origin{
		face: face{ep: st.ep, local: c.Local().Addr(), port: c.Local().Port(), towards: st.side},
		addr: c.Remote(), peer: c.Remote(), side: st.side, conn: c,
	}
	if t.from.certified = st.certified; st.certified && t.now-st.vouched > vouchEvery {
		s.engine.Vouch(c.Remote().Addr(), t.now)
		st.vouched = t.now
	}
	if st.side == flow.Outside && !t.admitted() || s.transit != nil && !s.leads(c) {
		c.CutOff(netio.ErrSourceClosed)
		return
	}
	t.handle(msg)
	t.measure()
}

// Fault implements netio.StreamHandler: a stream that is out of step cannot be
// read on (RFC 3261 §18.3).
func (s *Server) Fault(c *netio.Conn, fault sip.Fault, head []byte) {
	s.unreadable(c, fault.String())
}

func (s *Server) unreadable(c *netio.Conn, word string) {
	t := s.tasks.Get().(*task)
	defer s.tasks.Put(t)
	t.begin(s.now())
	st := s.streamState(c)
	if st.side == flow.Outside {
		s.engine.Malformed(c.Remote(), st.ep.transport, word, t.now)
	}
	t.from = origin{face: face{ep: st.ep}, addr: c.Remote(), peer: c.Remote(), side: st.side, conn: c}
	t.m.Buf = nil
	t.note(policy.Drop, policy.ReasonMalformed, word)
}

// What ends a connection below its messages is counted as.
const (
	wordFrames    = "websocket-frames"
	wordKeepAlive = "keep-alive-flood"
)

// Closed implements netio.StreamHandler.
func (s *Server) Closed(c *netio.Conn, err error) {
	switch {
	case errors.Is(err, netio.ErrWebSocket):
		s.unreadable(c, wordFrames)
	case errors.Is(err, netio.ErrKeepAlive):
		s.unreadable(c, wordKeepAlive)
	}
	st, ok := c.Value().(*stream)
	if !ok {
		return
	}
	st.mu.Lock()
	st.closed = true
	peers, keys := st.peers, st.keys
	st.peers, st.keys = nil, nil
	st.mu.Unlock()
	// Nobody is to find it any more when the other side hears of it.
	for _, key := range keys {
		s.streams.Delete(key, c.ID())
	}
	if st.trunk.addr.IsValid() {
		s.trunks.drop(st.trunk, c)
	}
	for _, p := range peers {
		p.conn.CloseAfterFlush()
	}
	if st.pair != nil {
		st.pair.CloseAfterFlush()
	}
}

// conn finds an open connection, or nil.
func (s *Server) conn(id uint64) *netio.Conn {
	c := s.tcp.ByID(id)
	if c == nil && s.dtls != nil {
		c = s.dtls.ByID(id)
	}
	return c
}

// streamState returns the state of a connection, made at its first message if we
// accepted it.
func (s *Server) streamState(c *netio.Conn) *stream {
	if st, ok := c.Value().(*stream); ok {
		return st
	}
	st := &stream{side: flow.Outside, ep: s.eps.conns[c.Listener()]}
	if st.ep.inside && s.pool.Has(c.Remote().Addr()) {
		st.side = flow.Inside
	} else if is := s.live.Load().certified; is != nil && c.Secure() {
		st.certified = is(c.TLS())
	}
	c.SetValue(st)
	return st
}

// pair returns c's connection to the PBX, dialled if there is none yet: from the address of
// ep, so that a PBX which knows us by address recognises us. It is called by c's reader only.
func (s *Server) pair(c *netio.Conn, pbx uint16, link *upstream.Link, ep *endpoint) (*netio.Conn, error) {
	return s.pairBy(c, pbx, func() (*netio.Conn, error) {
		st := &stream{side: flow.Inside, ep: ep, pair: c}
		if link.TLS != nil {
			return s.tcp.DialTLS(s.ctx, s, ep.source(), link.Addr, link.TLS, s.cfg.DialTimeout, st)
		}
		return s.tcp.Dial(s.ctx, s, ep.source(), link.Addr, s.cfg.DialTimeout, st)
	})
}

// pairBy returns c's connection to the PBX with that ID, dialled by dial if there is
// none yet.
func (s *Server) pairBy(c *netio.Conn, pbx uint16, dial func() (*netio.Conn, error)) (*netio.Conn, error) {
	st := s.streamState(c)
	st.mu.Lock()
	for _, peer := range st.peers {
		if peer.pbx == pbx {
			st.mu.Unlock()
			return peer.conn, nil
		}
	}
	st.mu.Unlock()

	conn, err := dial()
	if err != nil {
		return nil, err
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.closed {
		conn.Close(errPeerClosed)
		return nil, errClosing
	}
	st.peers = append(st.peers, peer{pbx: pbx, conn: conn})
	return conn, nil
}

// onPair reports whether the message at hand came over a connection that we
// dialled for a phone's (or a trunk's).
func (t *task) onPair() bool {
	if t.from.conn == nil {
		return false
	}
	return t.s.streamState(t.from.conn).pair != nil
}

// pairToken describes the flow of the phone whose connection is paired with the
// one that the message at hand came over.
func (t *task) pairToken() flow.Token {
	c := t.s.streamState(t.from.conn).pair
	tok := flow.Token{Kind: flow.KindRoute, Side: flow.Outside, Stream: true, Addr: c.Remote(), Conn: c.ID()}
	if l := c.Listener(); l >= 0 {
		tok.Listener = uint8(l)
		if t.s.eps.conns[l].wildcard {
			tok.Local = c.Local().Addr()
		}
	}
	return tok
}

// isCertified reports whether the client of a connection, if there is one, has shown a trunk's
// certificate.
func (s *Server) isCertified(c *netio.Conn) bool { return c != nil && s.streamState(c).certified }

// remember notes on which connection an account is, so that a token of its older
// connection still finds it. A successful REGISTER proves the account for any
// address; any other request speaks for its own address only, or a stranger could draw
// somebody's calls to himself by writing his name into From.
func (s *Server) remember(tok *flow.Token, proven bool) {
	c := s.conn(tok.Conn)
	if c == nil {
		return
	}
	st, ok := c.Value().(*stream)
	if !ok {
		return
	}
	key := s.streamKey(tok, proven)
	st.mu.Lock()
	defer st.mu.Unlock()
	for _, k := range st.keys {
		if k == key {
			s.streams.Put(key, tok.Conn)
			return
		}
	}
	if !st.closed && len(st.keys) < maxKeys {
		st.keys = append(st.keys, key)
		s.streams.Put(key, tok.Conn)
	}
}

func (s *Server) streamKey(tok *flow.Token, proven bool) uint64 {
	var b [21]byte
	b[0], b[1], b[2], b[3] = byte(tok.Who>>24), byte(tok.Who>>16), byte(tok.Who>>8), byte(tok.Who)
	if !proven {
		b[4] = 1
		a := tok.Addr.Addr().As16()
		copy(b[5:], a[:])
	}
	return s.key.Hash(b[:])
}

// streamOf finds the connection that a token means. For a dialog whose connection is
// gone it finds the newer one of the same account. An alias ends with its connection, as
// the binding should: the phone has registered another, and would be called twice.
func (s *Server) streamOf(tok *flow.Token) *netio.Conn {
	if c := s.conn(tok.Conn); c != nil && c.Remote() == tok.Addr {
		return c
	}
	if tok.Side != flow.Outside || tok.Kind == flow.KindAlias || tok.Who == 0 {
		return nil
	}
	for _, proven := range [...]bool{true, false} {
		if id, ok := s.streams.Get(s.streamKey(tok, proven)); ok {
			if c := s.conn(id); c != nil {
				return c
			}
		}
	}
	return nil
}
