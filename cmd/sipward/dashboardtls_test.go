package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"

	"sipward/admin"
	"sipward/conf"
)

// writeCertificate writes a certificate for 127.0.0.1 and its key. It returns the files and
// the hash of the key, by which a browser is told to trust it.
func writeCertificate(t *testing.T, dir string) (cert, key, hash string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	about := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "sipward"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, about, about, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(k.Public())
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for name, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	sum := sha256.Sum256(public)
	return cert, key, base64.StdEncoding.EncodeToString(sum[:])
}

// TestDashboardTLS: over TLS the dashboard is what it is without: one logs in, sees a ban
// appear while somebody guesses passwords, reads why, and lifts it.
func TestDashboardTLS(t *testing.T) {
	r := office(t)
	cert, key, hash := writeCertificate(t, r.dir)
	token, known := admin.NewToken()
	at := fmt.Sprint("127.0.0.1:", freePort(t))
	r.write(strings.Replace(r.text(), "control: {", fmt.Sprintf("control: {listen: [%q], certificate: %q, certificate_key: %q, tokens: [%q], ",
		at, cert, key, conf.Token{Name: "boss", Role: conf.TokenWrite, Hash: known}), 1))
	r.begin()
	t.Cleanup(r.end)
	res, err := (&http.Client{Timeout: 15 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}).Get("http://" + at + "/")
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusBadRequest { // of Go's: "client sent an HTTP request to an HTTPS server"
		t.Errorf("without TLS: %s", res.Status)
	}

	b := newBrowser(t, chromedp.Flag("ignore-certificate-errors-spki-list", hash))
	b.open("https://" + at + "/#bans")
	b.shows("The firewall in front of your PBX.")
	run(b, chromedp.SendKeys(chromedp.CSS("#token"), token+"\n"))
	b.shows("Nobody is banned.")
	b.checkCookie()
	if all := protocol(b, network.GetCookies, network.GetCookiesParams{}).Cookies; !all[0].Secure {
		t.Error("the cookie would be sent without TLS")
	}
	guess(t, "127.0.0.3", r.outside())
	b.shows("127.0.0.3") // nobody has touched the page
	b.shot("bans-tls")
	b.click("Why is 127.0.0.3 banned?")
	b.shows("Its packets are dropped")
	b.shows(`nonce="***"`)
	b.click("Unban 127.0.0.3")
	b.shows("Lift the ban of 127.0.0.3?")
	b.click("Lift the ban")
	b.shows("Its packets are let in")
	r.cli(0, words("list bans"), "bans: 0 sources")
	r.cli(0, words("report --acts --action command"), "unban 127.0.0.3", "token boss")
	b.click("Live")
	b.shows("Good standing")
	b.shows("register") // events are streamed
	b.click("Log out")
	b.shows("The firewall in front of your PBX.")
	b.onlyAsks("https://" + at)
}
