// Package admin is how people and programs talk to a running sipward: HTTP with JSON, on a
// unix socket and, where that is wanted, over TCP.
//
// Whoever may open the socket may use all of it, so the socket's mode and group are the
// access control. Over TCP a request carries a token (Authorization: Bearer), or the cookie
// of a session that a token has opened; the role of the token says what it may do, and what
// pages on other sites send is refused. Who asked for a change is known, logged and audited.
//
// Further parts, such as the dashboard, are Mounts: they find out with CallerOf who is
// asking, and speak to the API as every other client.
package admin

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"sipward/policy/ban"
	"sipward/policy/event"
)

// Config is what a Server is made of.
type Config struct {
	// Socket is the path of the unix socket; its folder is made if it is missing.
	Socket string
	// Mode holds the socket's permission bits.
	Mode fs.FileMode
	// Group owns the socket; empty: the group of the process.
	Group string
	// TCP holds further addresses to listen on; none: the unix socket is all there is.
	TCP []netip.AddrPort
	// Access says who may come in over TCP. With a certificate TCP is TLS.
	Access *Access
	// Mounts are served over TCP beside the API.
	Mounts  []Mount
	Backend Backend
	// Events and Bans are what GET /v1/events tells of.
	Events *event.Bus
	Bans   *ban.Table
	// Audit is told of each change that somebody has asked for, and must not wait; nil:
	// the log alone is.
	Audit func(Act)
	Log   *slog.Logger
}

// Mount is a part of what is served over TCP that others make. Requests reach it when they
// are for one of our own names and not from a page on another site; CallerOf says who makes
// them. Its answers carry a Content-Security-Policy that allows nothing, and Cache-Control:
// no-store, unless it sets others.
type Mount struct {
	// Pattern is one of http.ServeMux, such as "GET /static/". The API goes first.
	Pattern string
	// Need is the role that a caller must have. NoRole: everybody is let in, as to the
	// page where one logs in.
	Need    Role
	Handler http.Handler
}

// Server serves the API. It implements Run(ctx) error.
type Server struct {
	cfg     Config
	access  atomic.Pointer[Access]
	gate    *gatekeeper
	streams atomic.Int64 // of events that are open
	ending  chan struct{}

	unix, tcp http.Server
	socket    net.Listener
	ports     []net.Listener
}

// Limits of a request: who connects may be broken, or hostile.
const (
	readTimeout  = 5 * time.Second // of the whole request
	writeTimeout = 30 * time.Second
	idleTimeout  = time.Minute
	peerTimeout  = 20 * time.Second // of a client that acknowledges nothing
	endTimeout   = 2 * time.Second  // to finish what is being answered at the end
	maxBody      = 64 << 10
	maxHeader    = 16 << 10
)

// New opens the sockets. A socket file left behind by a process that is gone is
// replaced; one that a process still answers on is an error.
func New(cfg Config) (*Server, error) {
	if cfg.Access == nil {
		cfg.Access = new(Access)
	}
	s := &Server{cfg: cfg, ending: make(chan struct{})}
	s.access.Store(cfg.Access)
	api := s.routes()
	s.gate = newGatekeeper(s, s.site(api))
	s.unix = s.server(api)
	s.unix.ConnContext = withPeer
	s.tcp = s.server(s.gate)
	var err error
	if s.socket, err = listen(&cfg); err != nil {
		return nil, fmt.Errorf("open the control socket: %w", err)
	}
	for _, a := range cfg.TCP {
		l, err := s.listenTCP(a)
		if err != nil {
			s.Close()
			return nil, fmt.Errorf("open control.listen: %w", err)
		}
		s.ports = append(s.ports, l)
	}
	return s, nil
}

func (s *Server) server(h http.Handler) http.Server {
	return http.Server{
		Handler:     http.MaxBytesHandler(h, maxBody),
		ReadTimeout: readTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout,
		MaxHeaderBytes: maxHeader,
		ErrorLog:       slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelDebug), // what strangers cause
	}
}

// listenTCP refuses what would send tokens unencrypted to other machines.
func (s *Server) listenTCP(a netip.AddrPort) (net.Listener, error) {
	encrypted := s.cfg.Access.certificate != nil
	if !encrypted && !a.Addr().IsLoopback() {
		return nil, fmt.Errorf("%s can be reached from other machines, and there is no control.certificate", a)
	}
	l, err := (&net.ListenConfig{Control: abandon}).Listen(context.Background(), "tcp", a.String())
	if err != nil {
		return nil, err
	}
	if !encrypted {
		return newCapped(l), nil
	}
	return tls.NewListener(newCapped(l), &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			if c := s.access.Load().certificate; c != nil {
				return c, nil
			}
			return nil, errors.New("admin: there is no certificate any more")
		},
	}), nil
}

// abandon sets how long what a client does not acknowledge, or leaves no room for, is kept
// for it; connections inherit it from their listener (tcp(7), TCP_USER_TIMEOUT). A client that
// vanished would otherwise keep its stream of events until the kernel has no more attempts
// left, a quarter of an hour later.
func abandon(_, _ string, c syscall.RawConn) error {
	var failed error
	err := c.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(peerTimeout.Milliseconds()))
	})
	return errors.Join(err, failed)
}

// SetAccess replaces who may come in over TCP. Sessions of tokens that are no longer known
// end, and so do streams of events that are open.
func (s *Server) SetAccess(a *Access) { s.access.Store(a) }

// Addrs returns the TCP addresses that are listened on.
func (s *Server) Addrs() []net.Addr {
	var all []net.Addr
	for _, l := range s.ports {
		all = append(all, l.Addr())
	}
	return all
}

func listen(cfg *Config) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(cfg.Socket), 0o755); err != nil {
		return nil, err
	}
	if c, err := net.DialTimeout("unix", cfg.Socket, time.Second); err == nil {
		c.Close()
		return nil, fmt.Errorf("%s: another sipward answers there; stop it, or choose another control.socket", cfg.Socket)
	}
	if info, err := os.Lstat(cfg.Socket); err == nil {
		if info.Mode()&fs.ModeSocket == 0 {
			return nil, fmt.Errorf("%s exists and is not a socket; choose another control.socket", cfg.Socket)
		}
		if err := os.Remove(cfg.Socket); err != nil {
			return nil, err
		}
	}
	l, err := net.Listen("unix", cfg.Socket)
	if err != nil {
		return nil, err
	}
	if err := setAccess(cfg); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

func setAccess(cfg *Config) error {
	if cfg.Group != "" {
		id := cfg.Group // a number, or else a name
		if _, err := strconv.Atoi(id); err != nil {
			g, err := user.LookupGroup(cfg.Group)
			if err != nil {
				return fmt.Errorf("control.group: %w", err)
			}
			id = g.Gid
		}
		gid, err := strconv.Atoi(id)
		if err != nil {
			return fmt.Errorf("control.group %s: %w", cfg.Group, err)
		}
		if err := os.Chown(cfg.Socket, -1, gid); err != nil {
			return err
		}
	}
	return os.Chmod(cfg.Socket, cfg.Mode)
}

// Close closes a Server that will not be Run.
func (s *Server) Close() error {
	errs := []error{s.socket.Close()}
	for _, l := range s.ports {
		errs = append(errs, l.Close())
	}
	return errors.Join(errs...)
}

// Run serves until ctx ends; what is being answered then is finished, if it does not
// take long.
func (s *Server) Run(ctx context.Context) error {
	ended := make(chan struct{})
	notStarted := context.AfterFunc(ctx, func() {
		defer close(ended)
		close(s.ending)
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
		defer cancel()
		for _, h := range []*http.Server{&s.unix, &s.tcp} {
			if err := h.Shutdown(ctx); err != nil {
				h.Close()
			}
		}
	})
	var group errgroup.Group
	group.Go(func() error { return serve(&s.unix, s.socket) })
	for _, l := range s.ports {
		group.Go(func() error { return serve(&s.tcp, l) })
	}
	err := group.Wait()
	if !notStarted() {
		<-ended
	}
	return err
}

func serve(h *http.Server, l net.Listener) error {
	if err := h.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve %s: %w", l.Addr(), err)
	}
	return nil
}
