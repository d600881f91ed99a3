package phone

import (
	"fmt"
	"net/netip"
)

// Line is a phone's socket, or its connection to its proxy, for those who write what they like.
type Line struct {
	sock  socket
	proxy netip.AddrPort
}

// Dial opens a line to the proxy of a configuration.
func Dial(cfg Config) (*Line, error) {
	if cfg.Net == nil {
		cfg.Net = Host{}
	}
	s, err := connect(&cfg)
	if err != nil {
		return nil, err
	}
	l := &Line{sock: s, proxy: cfg.Proxy}
	if c, ok := s.(interface{ peer() netip.AddrPort }); ok {
		l.proxy = c.peer()
	}
	return l, nil
}

// connect opens the socket of a phone that calls its proxy.
func connect(cfg *Config) (socket, error) {
	if cfg.Transport.Connected() {
		c, err := dial(cfg)
		if err != nil {
			return nil, fmt.Errorf("connect phone %s: %w", cfg.User, err)
		}
		return c, nil
	}
	c, err := cfg.Net.ListenUDP(cfg.Local)
	if err != nil {
		return nil, fmt.Errorf("open phone %s: %w", cfg.User, err)
	}
	_ = c.SetReadBuffer(1 << 20)
	return &udpSocket{conn: c, buf: make([]byte, 65536)}, nil
}

// Write sends a message, whatever it is.
func (l *Line) Write(b []byte) error { return l.sock.send(b, l.proxy) }

// Read waits for the next message, which is valid until the next call. An error ends the line.
func (l *Line) Read() ([]byte, error) {
	b, _, err := l.sock.receive()
	return b, err
}

// Local is the line's own address.
func (l *Line) Local() netip.AddrPort { return l.sock.local() }

// Close ends the line.
func (l *Line) Close() { l.sock.close() }
