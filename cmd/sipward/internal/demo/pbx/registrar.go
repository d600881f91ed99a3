package pbx

import (
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/emiago/sipgo/sip"
)

const (
	defaultExpires = 300 * time.Second
	maxExpires     = time.Hour
	maxBindings    = 10 // of one account; the oldest makes room
)

// binding is where an account can be reached.
type binding struct {
	contact   sip.Uri
	source    string // the address that the REGISTER came from: answers and calls go there
	transport string
	expires   time.Time
}

// registrar holds the bindings of the accounts, which are few and known: strangers cannot make
// it grow.
type registrar struct {
	mu       sync.Mutex
	bindings map[string][]binding // by user, latest last
}

func newRegistrar() *registrar { return &registrar{bindings: make(map[string][]binding)} }

// find returns the account's latest binding. Calls are not forked.
func (r *registrar) find(user string, now time.Time) (binding, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := r.live(user, now)
	if len(all) == 0 {
		return binding{}, false
	}
	return all[len(all)-1], true
}

// flow returns the binding of a contact: a phone behind a NAT or on a connection of its own can be
// reached in no other way.
func (r *registrar) flow(contact sip.Uri, now time.Time) (binding, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for user := range r.bindings {
		for _, b := range r.live(user, now) {
			if b.contact.User == contact.User && b.contact.Host == contact.Host && b.contact.Port == contact.Port {
				return b, true
			}
		}
	}
	return binding{}, false
}

// live drops what has expired. The lock is held.
func (r *registrar) live(user string, now time.Time) []binding {
	var kept []binding
	for _, b := range r.bindings[user] {
		if b.expires.After(now) {
			kept = append(kept, b)
		}
	}
	r.bindings[user] = kept
	return kept
}

// update carries out one REGISTER (RFC 3261 §10.3) and returns the bindings that are left.
func (r *registrar) update(user string, req *sip.Request, now time.Time) []binding {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.live(user, now)
	for _, h := range req.GetHeaders("Contact") {
		c, ok := h.(*sip.ContactHeader)
		if !ok {
			continue
		}
		if c.Address.Wildcard {
			r.bindings[user] = nil
			continue
		}
		r.remove(user, c.Address)
		if d := expiry(req, c); d > 0 {
			r.bindings[user] = append(r.bindings[user], binding{
				contact: *c.Address.Clone(), source: req.Source(), transport: req.Transport(), expires: now.Add(d),
			})
		}
	}
	if all := r.bindings[user]; len(all) > maxBindings {
		r.bindings[user] = all[len(all)-maxBindings:]
	}
	return append([]binding(nil), r.bindings[user]...)
}

// remove forgets a contact. The lock is held.
func (r *registrar) remove(user string, contact sip.Uri) {
	var kept []binding
	for _, b := range r.bindings[user] {
		if b.contact.String() != contact.String() {
			kept = append(kept, b)
		}
	}
	r.bindings[user] = kept
}

// expiry reads the contact's own parameter, else the Expires header (RFC 3261 §10.2.1.1).
func expiry(req *sip.Request, c *sip.ContactHeader) time.Duration {
	text, ok := c.Params.Get("expires")
	if h := req.GetHeader("Expires"); !ok && h != nil {
		text = h.Value()
	}
	seconds, err := strconv.Atoi(text)
	if err != nil || seconds < 0 {
		return defaultExpires
	}
	return min(time.Duration(seconds)*time.Second, maxExpires)
}

func (p *PBX) register(req *sip.Request, tx sip.ServerTransaction) {
	user, ok := p.auth.check(req, tx)
	if !ok {
		return
	}
	if to := req.To(); to == nil || to.Address.User != user {
		respond(tx, req, sip.StatusForbidden, "Not Your Account")
		return
	}
	now := time.Now()
	res := sip.NewResponseFromRequest(req, sip.StatusOK, "OK", nil)
	for _, b := range p.reg.update(user, req, now) {
		seconds := int(b.expires.Sub(now).Seconds())
		res.AppendHeader(sip.NewHeader("Contact", fmt.Sprintf("<%s>;expires=%d", b.contact.String(), seconds)))
	}
	_ = tx.Respond(res) // an error: the transaction has ended meanwhile
}
