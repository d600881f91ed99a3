package netio

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"net/netip"
	"time"

	"github.com/dchest/siphash"
)

// cookieTime is how long a cookie is good for, at least; at most it is twice that.
// A client repeats a ClientHello for some seconds.
const cookieTime = 30 * time.Second

// cookies makes and checks the cookies of HelloVerifyRequests without a memory of
// those that it has made (RFC 6347 §4.2.1): a cookie is a keyed hash of the client's
// address and of what it offers, so only whoever has got it can have it.
//
// It belongs to one goroutine, and allocates nothing.
type cookies struct {
	now, before [2]uint64 // keys
	since       time.Time // when the present one came into use
	text        []byte
	sum         [16]byte
}

func newCookies(t time.Time) *cookies {
	return &cookies{now: newCookieKey(), before: newCookieKey(), since: t}
}

func newCookieKey() [2]uint64 {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return [2]uint64{binary.NativeEndian.Uint64(b[:]), binary.NativeEndian.Uint64(b[8:])}
}

// turn changes the key when it is time to.
func (c *cookies) turn(t time.Time) {
	switch age := t.Sub(c.since); {
	case age >= 2*cookieTime:
		c.now, c.before, c.since = newCookieKey(), newCookieKey(), t
	case age >= cookieTime:
		c.now, c.before, c.since = newCookieKey(), c.now, t
	}
}

// make returns h's cookie, which is valid until the next call.
func (c *cookies) make(h *clientHello, from netip.AddrPort, local netip.Addr) []byte {
	c.read(h, from, local)
	return c.under(c.now)
}

// good reports whether h has its cookie.
func (c *cookies) good(h *clientHello, from netip.AddrPort, local netip.Addr) bool {
	c.read(h, from, local)
	return subtle.ConstantTimeCompare(h.cookie, c.under(c.now)) == 1 ||
		subtle.ConstantTimeCompare(h.cookie, c.under(c.before)) == 1
}

// read sets what is hashed.
func (c *cookies) read(h *clientHello, from netip.AddrPort, local netip.Addr) {
	a, b := from.Addr().As16(), local.As16()
	c.text = append(append(c.text[:0], a[:]...), b[:]...)
	c.text = binary.BigEndian.AppendUint16(c.text, from.Port())
	c.text = append(append(c.text, h.before...), h.offer...)
}

func (c *cookies) under(key [2]uint64) []byte {
	a, b := siphash.Hash128(key[0], key[1], c.text)
	binary.BigEndian.PutUint64(c.sum[:], a)
	binary.BigEndian.PutUint64(c.sum[8:], b)
	return c.sum[:]
}
