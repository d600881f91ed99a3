package dashboard

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"net/http"
	"sync"
	"time"
)

// A link logs in once, and soon.
const (
	linkAge  = 15 * time.Minute
	maxLinks = 16
	maxBody  = 1 << 10 // of a request
)

// links holds the tokens of links that nobody has followed yet, by the hash of their
// code. Only this process makes links; beyond the cap the one that ends first goes.
type links struct {
	mu  sync.Mutex
	all map[[sha256.Size]byte]link
}

type link struct {
	token string
	until time.Time
}

func newLinks() *links { return &links{all: map[[sha256.Size]byte]link{}} }

func (l *links) add(token string, now time.Time) (code string) {
	code = rand.Text()
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.all) >= maxLinks {
		var oldest [sha256.Size]byte
		at := now.Add(linkAge)
		for id, o := range l.all {
			if !o.until.After(at) {
				oldest, at = id, o.until
			}
		}
		delete(l.all, oldest)
	}
	l.all[sha256.Sum256([]byte(code))] = link{token, now.Add(linkAge)}
	return code
}

// take returns the token of a link, and forgets it.
func (l *links) take(code string, now time.Time) (token string, ok bool) {
	id := sha256.Sum256([]byte(code))
	l.mu.Lock()
	defer l.mu.Unlock()
	o, ok := l.all[id]
	delete(l.all, id)
	return o.token, ok && now.Before(o.until)
}

// Link returns the path of the page such that it logs in with a token, once and within a
// quarter of an hour. The code stands behind the #, which browsers send nowhere.
func (d *Dashboard) Link(token string) string {
	return "/#login=" + d.links.add(token, time.Now())
}

// redeem answers the code of a link with its token, which the page then logs in with.
func (d *Dashboard) redeem(w http.ResponseWriter, r *http.Request) {
	var q struct {
		Code string `json:"code"`
	}
	if json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&q) != nil {
		answer(w, http.StatusBadRequest, failure{`send {"code": "…"}`})
		return
	}
	token, ok := d.links.take(q.Code, time.Now())
	if !ok {
		answer(w, http.StatusUnauthorized, failure{"This link has been used, or is too old. Log in with a token."})
		return
	}
	answer(w, http.StatusOK, struct {
		Token string `json:"token"`
	}{token})
}

type failure struct {
	Error string `json:"error"`
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(body) // a browser that went away needs no answer
}
