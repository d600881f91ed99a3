package main

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"

	"sipward/admin"
	"sipward/conf"
	"sipward/proxy/certs/certstest"
)

// TestDashboardTLS: over TLS the dashboard is what it is without: one logs in, sees a ban
// appear while somebody guesses passwords, reads why, and lifts it.
func TestDashboardTLS(t *testing.T) {
	r := office(t)
	issued := certstest.NewAuthority(t, "office").Issue(t, certstest.Options{CommonName: "sipward", IPs: []string{"127.0.0.1"}})
	cert, key := issued.Write(t, r.dir, "dashboard")
	trusted := sha256.Sum256(issued.Cert.RawSubjectPublicKeyInfo)
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

	b := newBrowser(t, chromedp.Flag("ignore-certificate-errors-spki-list", base64.StdEncoding.EncodeToString(trusted[:])))
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
