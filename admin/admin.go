// Package admin is how people and programs talk to a running sipward: HTTP with
// JSON on a unix socket. Whoever may open the socket may use all of it, so the
// socket's mode and group are the access control; who asked for a change is known
// from the socket, and logged.
package admin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"time"
)

// Config is what a Server is made of.
type Config struct {
	// Socket is the path of the unix socket; its folder is made if it is missing.
	Socket string
	// Mode holds the socket's permission bits.
	Mode fs.FileMode
	// Group owns the socket; empty: the group of the process.
	Group   string
	Backend Backend
	// Audit is told of each command that was to change something, before its answer
	// goes out. It is nil or returns when it has made a record.
	Audit func(Audit)
	Log   *slog.Logger
}

// Audit is a command that was to change something.
type Audit struct {
	Command string // without the address
	About   string // the address and what else it said
	By      Peer
	Err     error // why it did not succeed
}

// Server serves the control socket. It implements Run(ctx) error.
type Server struct {
	cfg      Config
	listener net.Listener
	http     http.Server
}

// Limits of a request: whoever connects is local, but may be broken.
const (
	readTimeout  = 5 * time.Second
	writeTimeout = 30 * time.Second
	endTimeout   = 2 * time.Second // to finish what is being answered at the end
	maxBody      = 64 << 10
)

// New opens the socket. A socket file left behind by a process that is gone is
// replaced; one that a process still answers on is an error.
func New(cfg Config) (*Server, error) {
	l, err := listen(&cfg)
	if err != nil {
		return nil, fmt.Errorf("open the control socket: %w", err)
	}
	s := &Server{cfg: cfg, listener: l}
	s.http = http.Server{
		Handler:     http.MaxBytesHandler(s.routes(), maxBody),
		ReadTimeout: readTimeout, WriteTimeout: writeTimeout, IdleTimeout: readTimeout,
		ConnContext: withPeer,
		ErrorLog:    slog.NewLogLogger(cfg.Log.Handler(), slog.LevelWarn),
	}
	return s, nil
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
func (s *Server) Close() error { return s.listener.Close() }

// Run serves until ctx ends; what is being answered then is finished, if it does not
// take long.
func (s *Server) Run(ctx context.Context) error {
	ended := make(chan struct{})
	notStarted := context.AfterFunc(ctx, func() {
		defer close(ended)
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
		defer cancel()
		if err := s.http.Shutdown(ctx); err != nil {
			s.http.Close()
		}
	})
	err := s.http.Serve(s.listener)
	if !notStarted() {
		<-ended
	}
	if err != nil && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve the control socket: %w", err)
	}
	return nil
}
