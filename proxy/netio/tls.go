package netio

import "crypto/tls"

// tlsLayer is TLS (RFC 3261 §26.3.1, RFC 8446) around the framing of a stream.
type tlsLayer struct {
	c      *Conn
	socket *socket
	conn   *tls.Conn
	shaken *tls.ConnectionState
	first  [1]byte
}

var _ layer = (*tlsLayer)(nil)

func newServerTLS(c *Conn, cfg *tls.Config) *tlsLayer {
	l := &tlsLayer{c: c, socket: newStreamSocket(c)}
	l.conn = tls.Server(l.socket, cfg)
	return l
}

func newClientTLS(c *Conn, cfg *tls.Config) *tlsLayer {
	l := &tlsLayer{c: c, socket: newStreamSocket(c)}
	l.conn = tls.Client(l.socket, cfg)
	return l
}

// oneRecord returns cfg such that a message is one record, so one segment and one
// system call: crypto/tls begins with records of a segment's size, which helps
// browsers to show the beginning of a page early.
func oneRecord(cfg *tls.Config) *tls.Config {
	cfg = cfg.Clone()
	cfg.DynamicRecordSizingDisabled = true
	return cfg
}

func (l *tlsLayer) handshake() error {
	if err := l.conn.Handshake(); err != nil {
		return err
	}
	state := l.conn.ConnectionState()
	l.shaken = &state
	return nil
}

func (l *tlsLayer) read() error {
	l.c.in.tls = l
	return l.c.readMessages()
}

func (l *tlsLayer) send(b []byte) error {
	_, err := l.conn.Write(b)
	return err
}

func (l *tlsLayer) goodbye() { _ = l.conn.CloseWrite() }

func (l *tlsLayer) state() *tls.ConnectionState { return l.shaken }

// fill reads decrypted bytes behind what is pending. As with tryRead, an idle
// connection has no buffer: one byte is read without, and what came with it after
// that.
func (l *tlsLayer) fill() error {
	in := &l.c.in
	if in.buf != nil {
		n, err := l.conn.Read(in.buf.b[in.end:])
		in.end += n
		if n > 0 {
			return nil // an error comes again
		}
		return err
	}
	if _, err := l.conn.Read(l.first[:]); err != nil {
		return err
	}
	in.buf = l.c.t.buffers.get()
	in.buf.b[0] = l.first[0]
	l.socket.poll = true
	n, _ := l.conn.Read(in.buf.b[1:]) // an error but that of the poll comes again
	l.socket.poll = false
	in.end = 1 + n
	return nil
}

// TLS is the state of c's TLS connection, or nil without one. It is not to be
// changed.
func (c *Conn) TLS() *tls.ConnectionState {
	if c.layer == nil {
		return nil
	}
	return c.layer.state()
}

// Secure reports whether c is encrypted.
func (c *Conn) Secure() bool { return c.TLS() != nil }
