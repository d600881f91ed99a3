package pbx

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/emiago/sipgo/sip"
	"github.com/icholy/digest"
)

// nonceLife is how long a challenge may be used.
const nonceLife = 5 * time.Minute

// authenticator checks digests (RFC 7616). A nonce is the time and a keyed hash of it, so it
// needs no memory and a stranger can neither fill nor guess anything.
type authenticator struct {
	realm     string
	passwords map[string]string
	key       [32]byte
}

func newAuthenticator(realm string, accounts []Account) (*authenticator, error) {
	a := &authenticator{realm: realm, passwords: make(map[string]string, len(accounts))}
	if _, err := rand.Read(a.key[:]); err != nil {
		return nil, fmt.Errorf("make the PBX's key: %w", err)
	}
	for _, acc := range accounts {
		a.passwords[acc.User] = acc.Password
	}
	return a, nil
}

// check returns the authenticated user. If there is none, it has answered the request with a
// challenge: the same for a wrong password and an account that does not exist, as it should be.
func (a *authenticator) check(req *sip.Request, tx sip.ServerTransaction) (user string, ok bool) {
	stale := false
	for _, h := range req.GetHeaders("Authorization") {
		cred, err := digest.ParseCredentials(h.Value())
		if err != nil || cred.Realm != a.realm {
			continue
		}
		fresh, ours := a.nonce(cred.Nonce)
		if !ours || !a.matches(req.Method.String(), cred) {
			continue
		}
		if fresh {
			return cred.Username, true
		}
		stale = true
	}
	a.challenge(req, tx, stale)
	return "", false
}

func (a *authenticator) matches(method string, cred *digest.Credentials) bool {
	password, known := a.passwords[cred.Username]
	chal := &digest.Challenge{Realm: a.realm, Nonce: cred.Nonce, Algorithm: cred.Algorithm, Opaque: cred.Opaque}
	if cred.QOP != "" {
		chal.QOP = []string{"auth"}
	}
	want, err := digest.Digest(chal, digest.Options{
		Method: method, URI: cred.URI, Username: cred.Username, Password: password, Count: cred.Nc, Cnonce: cred.Cnonce,
	})
	return err == nil && known && subtle.ConstantTimeCompare([]byte(want.Response), []byte(cred.Response)) == 1
}

func (a *authenticator) challenge(req *sip.Request, tx sip.ServerTransaction, stale bool) {
	chal := digest.Challenge{
		Realm: a.realm, Nonce: a.sign(strconv.FormatInt(time.Now().Unix(), 16)),
		Algorithm: "MD5", QOP: []string{"auth"}, Stale: stale,
	}
	respond(tx, req, sip.StatusUnauthorized, "Unauthorized", sip.NewHeader("WWW-Authenticate", chal.String()))
}

func (a *authenticator) sign(stamp string) string {
	m := hmac.New(sha256.New, a.key[:])
	m.Write([]byte(stamp))
	return stamp + "-" + hex.EncodeToString(m.Sum(nil)[:16])
}

// nonce tells whether we issued it, and whether that was lately.
func (a *authenticator) nonce(nonce string) (fresh, ours bool) {
	stamp, _, found := strings.Cut(nonce, "-")
	sec, err := strconv.ParseInt(stamp, 16, 64)
	if !found || err != nil || !hmac.Equal([]byte(a.sign(stamp)), []byte(nonce)) {
		return false, false
	}
	return time.Since(time.Unix(sec, 0)) < nonceLife, true
}
