package admin

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"sync"
	"time"
)

// A session stands for a token in a browser, which keeps it in a cookie that no script can
// read and that is not sent from pages of other sites. It ends with the browser, by
// logging out, when the token is no longer known, or when it was not used for a while.
const (
	sessionCookie = "sipward_session"
	sessionIdle   = 12 * time.Hour
	maxSessions   = 256
)

type session struct {
	token [sha256.Size]byte // the hash of the token that it stands for
	used  time.Time
}

// sessions holds the sessions by the hash of the cookie. When there are too many the one
// that was not used for longest makes room; only who has a token makes one.
type sessions struct {
	mu  sync.Mutex
	all map[[sha256.Size]byte]session
}

func newSessions() *sessions { return &sessions{all: map[[sha256.Size]byte]session{}} }

// add makes a session and returns the cookie's value.
func (s *sessions) add(token [sha256.Size]byte, now time.Time) string {
	var b [32]byte
	rand.Read(b[:]) // never fails
	value := base64.RawURLEncoding.EncodeToString(b[:])
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.all) >= maxSessions {
		var oldest [sha256.Size]byte
		at := now
		for id, o := range s.all {
			if !o.used.After(at) {
				oldest, at = id, o.used
			}
		}
		delete(s.all, oldest)
	}
	s.all[sha256.Sum256([]byte(value))] = session{token: token, used: now}
	return value
}

// find returns the token that a request's session stands for. What changes something is
// listened to only if the browser says that it comes from our own page.
func (s *sessions) find(r *http.Request, access *Access, now time.Time) (Token, bool) {
	c, err := r.Cookie(sessionCookie)
	if err != nil {
		return Token{}, false
	}
	safe := r.Method == http.MethodGet || r.Method == http.MethodHead
	if !safe && r.Header.Get("Origin") == "" && r.Header.Get("Sec-Fetch-Site") == "" {
		return Token{}, false
	}
	id := sha256.Sum256([]byte(c.Value))
	s.mu.Lock()
	defer s.mu.Unlock()
	o, ok := s.all[id]
	if !ok {
		return Token{}, false
	}
	t, known := access.find(o.token)
	if !known || now.Sub(o.used) > sessionIdle {
		delete(s.all, id)
		return Token{}, false
	}
	o.used = now
	s.all[id] = o
	return t, true
}

func (s *sessions) remove(r *http.Request) {
	if c, err := r.Cookie(sessionCookie); err == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.all, sha256.Sum256([]byte(c.Value)))
	}
}

// SessionStatus says who is asking.
type SessionStatus struct {
	Name string `json:"name"`
	Role string `json:"role"` // "read" or "write"
}

func sessionStatus(r *http.Request) (any, error) {
	c, _ := CallerOf(r)
	return SessionStatus{Name: c.String(), Role: c.Role.String()}, nil
}

// login answers a request that came with a token with a cookie that stands for it.
func (s *Server) login(w http.ResponseWriter, r *http.Request) error {
	c, _ := CallerOf(r)
	for _, t := range s.access.Load().tokens {
		if c.Peer == nil && t.Name == c.Token {
			http.SetCookie(w, cookie(r, s.gate.sessions.add(t.Hash, time.Now()), 0))
			return s.get(sessionStatus).serve(w, r)
		}
	}
	return &Refusal{http.StatusUnprocessableEntity, "a session is for browsers, which come over control.listen with a token"}
}

func (s *Server) logout(w http.ResponseWriter, r *http.Request) error {
	s.gate.sessions.remove(r)
	http.SetCookie(w, cookie(r, "", -1))
	return s.get(sessionStatus).serve(w, r)
}

func cookie(r *http.Request, value string, maxAge int) *http.Cookie {
	return &http.Cookie{
		Name: sessionCookie, Value: value, Path: "/", MaxAge: maxAge,
		HttpOnly: true, SameSite: http.SameSiteStrictMode, Secure: r.TLS != nil,
	}
}
