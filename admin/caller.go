package admin

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"time"
)

// Caller is who makes a request, and what he may do. On the unix socket the kernel
// vouches for the process, and whoever could open the socket may do everything; over TCP
// it is whoever holds the token.
type Caller struct {
	Role Role
	// Peer is the process; nil over TCP.
	Peer *Peer
	// Token is the name of the token, and Source the address that it came from; both
	// are zero on the unix socket.
	Token  string
	Source netip.Addr
}

func (c Caller) String() string {
	switch {
	case c.Peer != nil:
		return c.Peer.String()
	case c.Token != "":
		return fmt.Sprintf("token %s (from %s)", c.Token, c.Source)
	}
	return "unknown"
}

type callerKey struct{}

// CallerOf returns who makes a request; false if it carries nothing that tells.
func CallerOf(r *http.Request) (Caller, bool) {
	c, ok := r.Context().Value(callerKey{}).(Caller)
	return c, ok
}

func withCaller(ctx context.Context, c Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

// withPeer notes who has connected to the unix socket: unix(7), SO_PEERCRED.
func withPeer(ctx context.Context, c net.Conn) context.Context {
	if p, err := peerOf(c); err == nil {
		return withCaller(ctx, Caller{Role: Write, Peer: &p})
	}
	return ctx
}

// Act is something that somebody changed, or tried to.
type Act struct {
	Time    time.Time
	By      Caller
	Command string // as on the command line: "ban", "allow --remove"
	About   string // what it was about; may hold text of the caller's
	Err     error  // why nothing was changed; nil: done
}

// audit tells the log, and whoever records acts.
func (s *Server) audit(a Act) {
	log := s.cfg.Log.With("command", a.Command, "about", a.About, "by", a.By.String())
	if a.Err != nil {
		log.Warn("command failed", "err", a.Err)
	} else {
		log.Info("command done")
	}
	if s.cfg.Audit != nil {
		s.cfg.Audit(a)
	}
}
