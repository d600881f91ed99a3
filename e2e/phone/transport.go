package phone

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
	"github.com/pion/dtls/v3"
	"github.com/pion/logging"
)

// Transport is what a phone speaks with its proxy.
type Transport int

const (
	UDP Transport = iota
	TCP
	TLS
	WS // RFC 7118
	WSS
	DTLS // a message in each record
)

// transports: the name in Via, what a contact says of it, and the port where a URI names none.
var transports = [...]struct {
	via, param string
	port       uint16
}{
	UDP:  {"UDP", "", 5060},
	TCP:  {"TCP", ";transport=tcp", 5060},
	TLS:  {"TLS", ";transport=tls", 5061},
	WS:   {"WS", ";transport=ws", 80},
	WSS:  {"WSS", ";transport=ws", 443},
	DTLS: {"DTLS-UDP", ";transport=dtls-udp", 5061},
}

// String is the transport's name in Via.
func (t Transport) String() string { return transports[t].via }

// Reliable says whether nothing has to be sent again.
func (t Transport) Reliable() bool { return t != UDP && t != DTLS }

// Connected says whether the phone has a connection, over which everything comes and goes.
func (t Transport) Connected() bool { return t != UDP }

// Param is what a contact says of the transport; nothing for UDP.
func (t Transport) Param() string { return transports[t].param }

// Port is where a server listens unless it says otherwise.
func (t Transport) Port() uint16 { return transports[t].port }

// browser says whether a phone can only be called over its connection, and has a name that nobody can look up.
func (t Transport) browser() bool { return t == WS || t == WSS }

const dialTime = 5 * time.Second

// dial opens the phone's connection to its proxy.
func dial(cfg *Config) (socket, error) {
	ctx, cancel := context.WithTimeout(context.Background(), dialTime)
	defer cancel()
	switch cfg.Transport {
	case WS, WSS:
		return dialWebSocket(ctx, cfg)
	case DTLS:
		return dialDTLS(ctx, cfg)
	}
	c, err := cfg.Net.DialTCP(cfg.Local, cfg.Proxy, dialTime)
	if err != nil {
		return nil, err
	}
	if cfg.Transport == TCP {
		return newStreamSocket(c, c), nil
	}
	secure := tls.Client(c, cfg.TLS)
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = c.Close()
		return nil, err
	}
	return newStreamSocket(secure, c), nil
}

// ends are those of a connection.
type ends struct{ here, there netip.AddrPort }

// errElsewhere: a phone with a connection has one, to its proxy. A route that leads elsewhere is a finding.
var errElsewhere = errors.New("phone: the route leads away from the connection")

func (e ends) reach(to netip.AddrPort) error {
	if to != e.there {
		return fmt.Errorf("%w: connected to %v, routed to %v", errElsewhere, e.there, to)
	}
	return nil
}

func (e ends) local() netip.AddrPort { return e.here }
func (e ends) peer() netip.AddrPort  { return e.there }

// connSocket writes each message to a connection as it is.
type connSocket struct {
	ends
	conn net.Conn
}

func (s *connSocket) send(b []byte, to netip.AddrPort) error {
	if err := s.reach(to); err != nil {
		return err
	}
	_, err := s.conn.Write(b)
	return err
}

func (s *connSocket) close() { _ = s.conn.Close() }

// streamSocket is a TCP connection, with TLS or without.
type streamSocket struct {
	connSocket
	r *bufio.Reader
}

func newStreamSocket(c net.Conn, under *net.TCPConn) *streamSocket {
	e := ends{under.LocalAddr().(*net.TCPAddr).AddrPort(), under.RemoteAddr().(*net.TCPAddr).AddrPort()}
	return &streamSocket{connSocket{e, c}, bufio.NewReader(c)}
}

func (s *streamSocket) receive() ([]byte, netip.AddrPort, error) {
	b, err := ReadMessage(s.r)
	return b, s.there, err
}

// webSocket is a WebSocket, as browsers open it.
type webSocket struct {
	ends
	conn *websocket.Conn
}

func dialWebSocket(ctx context.Context, cfg *Config) (*webSocket, error) {
	s := &webSocket{}
	scheme := "ws"
	transport := &http.Transport{
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			c, err := cfg.Net.DialTCP(cfg.Local, cfg.Proxy, dialTime)
			if err != nil {
				return nil, err
			}
			s.ends = ends{c.LocalAddr().(*net.TCPAddr).AddrPort(), c.RemoteAddr().(*net.TCPAddr).AddrPort()}
			return c, nil
		},
	}
	if cfg.Transport == WSS {
		scheme, transport.TLSClientConfig = "wss", cfg.TLS
	}
	header := http.Header{}
	if cfg.Origin != "" {
		header.Set("Origin", cfg.Origin)
	}
	c, _, err := websocket.Dial(ctx, scheme+"://"+cfg.Proxy.String()+"/", &websocket.DialOptions{
		HTTPClient: &http.Client{Transport: transport}, HTTPHeader: header, Subprotocols: []string{"sip"}})
	if err != nil {
		return nil, err
	}
	if c.Subprotocol() != "sip" {
		_ = c.CloseNow()
		return nil, errors.New("the server does not speak SIP over WebSocket")
	}
	c.SetReadLimit(1 << 20)
	s.conn = c
	return s, nil
}

func (s *webSocket) send(b []byte, to netip.AddrPort) error {
	if err := s.reach(to); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), dialTime)
	defer cancel()
	return s.conn.Write(ctx, websocket.MessageText, b)
}

func (s *webSocket) receive() ([]byte, netip.AddrPort, error) {
	for {
		_, b, err := s.conn.Read(context.Background())
		if err != nil || len(bytes.TrimSpace(b)) > 0 { // nothing else: a keep-alive
			return b, s.there, err
		}
	}
}

func (s *webSocket) close() { _ = s.conn.CloseNow() }

// dtlsSocket is a DTLS association.
type dtlsSocket struct {
	connSocket
	under *patient
	buf   []byte
}

// patient lets pion/dtls see an alert only when what came before it has been read: its Read chooses at random between the
// last record and the end of the association.
type patient struct {
	net.PacketConn
	unread atomic.Int64 // records that may be messages
}

const (
	recordHeader = 13
	recordAlert  = 21
	recordData   = 23
)

func (p *patient) ReadFrom(b []byte) (int, net.Addr, error) {
	n, from, err := p.PacketConn.ReadFrom(b)
	for rest := b[:n]; len(rest) >= recordHeader; {
		switch rest[0] {
		case recordData:
			p.unread.Add(1)
		case recordAlert:
			for end := time.Now().Add(time.Second); p.unread.Load() > 0 && time.Now().Before(end); {
				time.Sleep(time.Millisecond)
			}
		}
		rest = rest[min(len(rest), recordHeader+int(binary.BigEndian.Uint16(rest[recordHeader-2:]))):]
	}
	return n, from, err
}

func dialDTLS(ctx context.Context, cfg *Config) (*dtlsSocket, error) {
	socket, err := cfg.Net.ListenUDP(cfg.Local)
	if err != nil {
		return nil, err
	}
	under := &patient{PacketConn: socket}
	options := []dtls.ClientOption{
		dtls.WithRootCAs(cfg.TLS.RootCAs), dtls.WithServerName(cfg.TLS.ServerName),
		dtls.WithConnectionIDGenerator(dtls.OnlySendCIDGenerator()),
		dtls.WithLoggerFactory(&logging.DefaultLoggerFactory{DefaultLogLevel: logging.LogLevelDisabled}),
	}
	if len(cfg.TLS.Certificates) > 0 {
		options = append(options, dtls.WithCertificates(cfg.TLS.Certificates...))
	}
	c, err := dtls.ClientWithOptions(under, net.UDPAddrFromAddrPort(cfg.Proxy), options...)
	if err == nil {
		err = c.HandshakeContext(ctx)
	}
	if err != nil {
		_ = under.Close()
		return nil, err
	}
	e := ends{under.LocalAddr().(*net.UDPAddr).AddrPort(), cfg.Proxy}
	return &dtlsSocket{connSocket{e, c}, under, make([]byte, 65536)}, nil
}

func (s *dtlsSocket) receive() ([]byte, netip.AddrPort, error) {
	for {
		n, err := s.conn.Read(s.buf)
		if err == nil {
			s.under.unread.Add(-1)
		}
		if err != nil || len(bytes.TrimSpace(s.buf[:n])) > 0 {
			return s.buf[:n], s.there, err
		}
	}
}
