package admin

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"sipward/policy/rate"
)

// Limits of wrong tokens, of one source. They are remembered for a few thousand
// sources; one with many of them is the last to be forgotten.
const (
	wrongTokens       = 10
	wrongTokensPeriod = time.Minute
	wrongTokenSources = 4096
)

// gatekeeper looks at every request that comes over TCP, before anything else does.
type gatekeeper struct {
	s        *Server
	next     http.Handler
	wrong    *rate.Counter // of tokens
	sessions *sessions
	cross    *http.CrossOriginProtection
}

func newGatekeeper(s *Server, next http.Handler) *gatekeeper {
	return &gatekeeper{
		s: s, next: next, sessions: newSessions(), cross: http.NewCrossOriginProtection(),
		wrong: rate.NewCounter(rate.Config{Sources: wrongTokenSources}),
	}
}

// ServeHTTP refuses what a page on another site may have sent, notes who is asking, and
// passes the request on; what the caller may do is looked at where it is done.
func (g *gatekeeper) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	access := g.s.access.Load()
	if err := g.checkSite(r, access); err != nil {
		g.close(w, err)
		return
	}
	caller, ok, err := g.identify(r, access)
	if err != nil {
		g.close(w, err)
		return
	}
	if ok {
		r = r.WithContext(withCaller(r.Context(), caller))
	}
	g.next.ServeHTTP(w, r)
}

// close refuses, and does not keep the connection of whoever it was.
func (g *gatekeeper) close(w http.ResponseWriter, err error) {
	w.Header().Set("Connection", "close")
	refuse(w, err)
}

func (g *gatekeeper) checkSite(r *http.Request, access *Access) error {
	if !access.serves(r.Host) {
		return &Refusal{http.StatusMisdirectedRequest, fmt.Sprintf("this is not %.100q; use the address, or add the name to control.hosts", r.Host)}
	}
	if from := r.Header.Get("Origin"); from != "" {
		if u, err := url.Parse(from); err != nil || !strings.EqualFold(u.Host, r.Host) {
			return &Refusal{http.StatusForbidden, fmt.Sprintf("a page from %.100q may not use this", from)}
		}
	}
	if err := g.cross.Check(r); err != nil {
		return &Refusal{http.StatusForbidden, "a page from another site may not use this"}
	}
	return nil
}

// identify finds out who is asking; false is somebody without a token.
func (g *gatekeeper) identify(r *http.Request, access *Access) (Caller, bool, error) {
	source, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return Caller{}, false, fmt.Errorf("read the address of a client: %w", err)
	}
	addr, now := source.Addr().Unmap(), time.Now()
	bears := r.Header.Get("Authorization") != ""
	if bears && g.wrong.Count(addr, now.UnixNano(), wrongTokensPeriod) >= wrongTokens {
		return Caller{}, false, &Refusal{http.StatusTooManyRequests, fmt.Sprintf("too many wrong tokens came from %s; wait a minute", addr)}
	}
	t, ok := g.token(r, access, now)
	if bears && !ok {
		if g.wrong.Add(addr, now.UnixNano(), wrongTokensPeriod) == wrongTokens {
			g.s.cfg.Log.Warn("too many wrong tokens; the source is refused for a minute", "source", addr)
		}
		return Caller{}, false, &Refusal{http.StatusUnauthorized, "the token is not known; `sipward token new` makes one, and `sipward reload` puts it in force"}
	}
	return Caller{Role: t.Role, Token: t.Name, Source: addr}, ok, nil
}

// token returns the token that a request carries, or that its session stands for.
func (g *gatekeeper) token(r *http.Request, access *Access, now time.Time) (Token, bool) {
	header := r.Header.Get("Authorization")
	if header == "" {
		return g.sessions.find(r, access, now)
	}
	scheme, token, _ := strings.Cut(header, " ")
	t, ok := access.find(sha256.Sum256([]byte(strings.TrimSpace(token))))
	return t, ok && strings.EqualFold(scheme, "Bearer")
}

// still says whether who was let in may go on.
func (g *gatekeeper) still(r *http.Request) bool {
	if c, ok := CallerOf(r); ok && c.Peer != nil {
		return true
	}
	t, ok := g.token(r, g.s.access.Load(), time.Now())
	return ok && t.Role >= Read
}

// allow says why a caller may not do what needs a role.
func allow(r *http.Request, need Role) error {
	c, ok := CallerOf(r)
	switch {
	case need == NoRole || c.Role >= need:
		return nil
	case ok:
		return &Refusal{http.StatusForbidden, fmt.Sprintf("this needs a token with the role %s, and %s has the role %s", need, c, c.Role)}
	}
	return &Refusal{http.StatusUnauthorized, "this needs a token; send it as Authorization: Bearer TOKEN"}
}
