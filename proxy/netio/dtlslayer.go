package netio

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/logging"
)

// maxPlain is the most that a record carries, in bytes (RFC 6347 §4.1).
const maxPlain = 1 << 14

// ErrTooLarge is returned by Send for a message that does not fit into one record of
// DTLS (16 KiB). The association stays open.
var ErrTooLarge = errors.New("netio: message is too large for a DTLS record")

// dtlsLayer is DTLS 1.2 (RFC 6347) between an association and its messages.
type dtlsLayer struct {
	a      *association
	c      *Conn
	shaken atomic.Pointer[tls.ConnectionState]
}

var _ layer = (*dtlsLayer)(nil)

// suites are the ciphers that are spoken: those with forward secrecy that authenticate
// what they encrypt.
var suites = []dtls.CipherSuiteID{
	dtls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, dtls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
	dtls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, dtls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
	dtls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, dtls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
}

// newConn makes the connection of an association whose client is at from.
func (l *dtlsListener) newConn(a *association, from netip.AddrPort) (*Conn, error) {
	cfg, err := configFor(l.d.cfg.TLS, &tls.ClientHelloInfo{SupportedVersions: []uint16{tls.VersionTLS12}})
	if err != nil {
		return nil, err
	}
	options := []dtls.ServerOption{
		dtls.WithCipherSuites(suites...),
		dtls.WithConnectionIDGenerator(func() []byte { return a.cid[:] }),
		dtls.WithClientAuth(dtls.ClientAuthType(cfg.ClientAuth)), // numbered as crypto/tls does
		dtls.WithClientCAs(cfg.ClientCAs),
		dtls.WithGetCertificate(func(hello *dtls.ClientHelloInfo) (*tls.Certificate, error) {
			cert, err := certificateFor(l.d.cfg.TLS, hello)
			if err == nil {
				err = a.takeTurn() // what costs is computed with it, until the answer is sent
			}
			return cert, err
		}),
		dtls.WithLoggerFactory(&logging.DefaultLoggerFactory{DefaultLogLevel: logging.LogLevelDisabled}),
	}
	if cfg.VerifyConnection != nil {
		options = append(options, dtls.WithVerifyConnection(func(s *dtls.State) error {
			st, err := stateOf(s)
			if err != nil {
				return err
			}
			return cfg.VerifyConnection(*st)
		}))
	}
	if a.dtls, err = dtls.ServerWithOptions(a, peerAddr(from), options...); err != nil {
		return nil, err
	}
	c, err := l.d.conns.newConn(sealed{a}, l.h, l.d.cfg.FirstListener+l.index)
	if err != nil {
		return nil, err
	}
	a.c = c
	a.shaking, a.giveUp = context.WithCancel(l.d.conns.done)
	c.layer = &dtlsLayer{a: a, c: c}
	return c, nil
}

func configFor(cfg *tls.Config, hello *tls.ClientHelloInfo) (*tls.Config, error) {
	if cfg.GetConfigForClient == nil {
		return cfg, nil
	}
	found, err := cfg.GetConfigForClient(hello)
	if found == nil {
		found = cfg
	}
	return found, err
}

// certificateFor chooses a certificate as crypto/tls does. pion/dtls does not tell
// which signature algorithms a client knows; all that are in use are taken for known.
func certificateFor(cfg *tls.Config, hello *dtls.ClientHelloInfo) (*tls.Certificate, error) {
	h := &tls.ClientHelloInfo{
		ServerName:        hello.ServerName,
		SupportedVersions: []uint16{tls.VersionTLS12},
		SupportedCurves:   []tls.CurveID{tls.X25519, tls.CurveP256, tls.CurveP384},
		SupportedPoints:   []uint8{0},
		SignatureSchemes: []tls.SignatureScheme{
			tls.ECDSAWithP256AndSHA256, tls.ECDSAWithP384AndSHA384, tls.ECDSAWithP521AndSHA512, tls.Ed25519,
			tls.PKCS1WithSHA256, tls.PKCS1WithSHA384, tls.PKCS1WithSHA512,
		},
	}
	for _, id := range hello.CipherSuites {
		h.CipherSuites = append(h.CipherSuites, uint16(id))
	}
	cfg, err := configFor(cfg, h)
	if err != nil {
		return nil, err
	}
	if cfg.GetCertificate != nil && (len(cfg.Certificates) == 0 || h.ServerName != "") {
		if cert, err := cfg.GetCertificate(h); cert != nil || err != nil {
			return cert, err
		}
	}
	for i := range cfg.Certificates {
		if h.SupportsCertificate(&cfg.Certificates[i]) == nil {
			return &cfg.Certificates[i], nil
		}
	}
	if len(cfg.Certificates) == 0 {
		return nil, errors.New("netio: no certificate for DTLS")
	}
	return &cfg.Certificates[0], nil
}

// stateOf says of an association what Conn.TLS says of connections.
func stateOf(s *dtls.State) (*tls.ConnectionState, error) {
	st := &tls.ConnectionState{Version: tls.VersionTLS12, HandshakeComplete: true, CipherSuite: uint16(s.CipherSuiteID)}
	for _, der := range s.PeerCertificates {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, err
		}
		st.PeerCertificates = append(st.PeerCertificates, cert)
	}
	return st, nil
}

func (l *dtlsLayer) handshake() error {
	l.c.in.heard = true
	defer l.a.giveUp()
	ctx, cancel := context.WithTimeout(l.a.shaking, l.c.t.cfg.HandshakeTimeout)
	defer cancel()
	l.a.shaking = ctx
	defer close(l.a.shaken)
	defer l.a.endTurn()
	var alert interface{ IsFatalOrCloseNotify() bool } // what has come, of errors that are not exported
	switch err := l.a.dtls.HandshakeContext(ctx); {
	case errors.Is(err, context.DeadlineExceeded):
		return ErrHandshakeTimeout
	case errors.As(err, &alert):
		return fmt.Errorf("%w: %w", ErrRejected, err)
	case err != nil:
		return err
	}
	s, ok := l.a.dtls.ConnectionState()
	if !ok {
		return ErrClosed
	}
	st, err := stateOf(&s)
	if err != nil {
		return err
	}
	l.shaken.Store(st)
	l.a.heard.Store(time.Now().UnixNano())
	l.a.established.Store(true)
	return nil
}

// read hands on each record as a message.
func (l *dtlsLayer) read() error {
	c := l.c
	buf := make([]byte, maxRecord)
	for !c.draining.Load() {
		n, err := l.a.dtls.Read(buf)
		switch {
		case errors.Is(err, context.DeadlineExceeded):
			if c.draining.Load() {
				return nil
			}
			if err := c.late(); err != nil {
				return err
			}
		case err != nil:
			if errors.Is(err, io.EOF) && c.Close(err) {
				l.last()
			}
			return err
		default:
			l.follow()
			now := time.Now()
			l.a.heard.Store(now.UnixNano())
			c.whole(buf[:n:n], now)
			c.settle(now)
		}
	}
	return nil
}

// last hands on what came before the end and has not been read.
func (l *dtlsLayer) last() {
	for v := range l.a.unread() {
		if msg, ok := v.([]byte); ok && !l.c.draining.Load() {
			l.c.whole(msg, time.Now())
		}
	}
}

// follow notes that the other side has moved (RFC 9146 §6).
func (l *dtlsLayer) follow() {
	now := unzoned(netip.AddrPort(l.a.dtls.RemoteAddr().(peerAddr)))
	if now != l.a.at() {
		l.a.l.d.counters.moves.Add(1)
		l.a.moved.Store(&now)
	}
}

func (l *dtlsLayer) send(b []byte) error {
	if len(b) > maxPlain {
		return ErrTooLarge
	}
	_, err := l.a.dtls.Write(b)
	return err
}

// goodbye is said by sealed.Close; here a handshake ends that is not over.
func (l *dtlsLayer) goodbye() { l.a.giveUp() }

func (l *dtlsLayer) state() *tls.ConnectionState { return l.shaken.Load() }

// sealed is an association as a Conn sees what is below it: it has no socket of its
// own, so whatever is done to that is done.
type sealed struct{ a *association }

var (
	_ descriptor      = sealed{}
	_ syscall.RawConn = sealed{}
)

// SyscallConn implements descriptor.
func (s sealed) SyscallConn() (syscall.RawConn, error) { return s, nil }

// SetReadDeadline implements descriptor.
func (s sealed) SetReadDeadline(t time.Time) error { return s.a.dtls.SetReadDeadline(t) }

// SetWriteDeadline implements descriptor: nothing waits to be written.
func (s sealed) SetWriteDeadline(time.Time) error { return nil }

// Close implements descriptor. The other side is told.
func (s sealed) Close() error {
	s.a.l.forget(s.a)
	return s.a.dtls.Close()
}

// Control implements syscall.RawConn.
func (sealed) Control(func(fd uintptr)) error { return nil }

// Read implements syscall.RawConn: there is nothing to discard.
func (sealed) Read(func(fd uintptr) bool) error { return nil }

// Write implements syscall.RawConn.
func (sealed) Write(func(fd uintptr) bool) error { return nil }
