package certs_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sipward/proxy/certs"
	"sipward/proxy/certs/certstest"
)

// TestACMEReload: a name is added, the authority changes, first to one that cannot reach us, and
// a name goes, without a handshake for a name that stays that fails.
func TestACMEReload(t *testing.T) {
	port := freePort(t)
	first, second := certstest.StartPebble(t, at("127.0.0.1", port), 90*24*time.Hour), certstest.StartPebble(t, at("127.0.0.1", port), 90*24*time.Hour)
	log := slog.New(slog.DiscardHandler)
	cfg := certs.ACMEConfig{Domains: []string{"sip.example.com"}, Directory: first.Directory, CA: first.CA, Port: port, Dir: t.TempDir(), Log: log}
	a, _ := runACME(t, cfg)
	st := certs.NewStore(load(t, certs.Config{}), a)
	shown := func(name string) *x509.Certificate {
		t.Helper()
		_, c, err, _ := shake(t, st.TLS(), &tls.Config{ServerName: name, InsecureSkipVerify: true}) // whose it is, is looked at
		if err != nil {
			t.Fatal(err)
		}
		return c.ConnectionState().PeerCertificates[0]
	}
	reload := func(cfg certs.ACMEConfig) {
		t.Helper()
		if err := a.Reload(cfg); err != nil {
			t.Fatal(err)
		}
	}
	sip := leafFor(t, first, st, "sip.example.com", nil)

	cfg.Domains = []string{"sip.example.com", "voice.example.com"}
	reload(cfg)
	if !shown("sip.example.com").Equal(sip) {
		t.Error("with a further name, another certificate is shown")
	}
	voice := leafFor(t, first, st, "voice.example.com", nil)
	reload(cfg) // the same: nothing is made anew
	if !shown("voice.example.com").Equal(voice) {
		t.Error("with the same names, another certificate is shown")
	}

	missing := cfg
	missing.CA = filepath.Join(t.TempDir(), "none.pem")
	if err := a.Reload(missing); err == nil || !strings.Contains(err.Error(), "none.pem") {
		t.Errorf("without its CA: %v", err)
	}

	unreachable := cfg
	unreachable.Directory, unreachable.CA, unreachable.Port = second.Directory, second.CA, freePort(t)
	reload(unreachable)
	for deadline := time.Now().Add(time.Minute); st.Infos()[0].Failed == ""; time.Sleep(20 * time.Millisecond) {
		if !shown("sip.example.com").Equal(sip) || !shown("SIP.example.com").Equal(sip) || !shown("voice.example.com").Equal(voice) {
			t.Fatal("what was obtained before is not shown")
		}
		if time.Now().After(deadline) {
			t.Fatalf("the authority reaches us: %+v", st.Infos())
		}
	}

	cfg.Directory, cfg.CA, cfg.Domains = second.Directory, second.CA, cfg.Domains[:1]
	reload(cfg)
	for deadline := time.Now().Add(time.Minute); shown("sip.example.com").Equal(sip); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("nothing new is obtained: %+v", st.Infos())
		}
	}
	next := leafFor(t, second, st, "sip.example.com", nil)
	if !shown("voice.example.com").Equal(next) {
		t.Error("the certificate of a name that is gone is shown")
	}
	if infos := st.Infos(); len(infos) != 1 || infos[0].NotAfter.IsZero() || infos[0].Failed != "" {
		t.Errorf("%+v", infos)
	}

	cfg.Domains = nil
	reload(cfg)
	if _, err := st.Certificate("sip.example.com"); !errors.Is(err, certs.ErrNoCertificate) || len(st.Infos()) != 0 {
		t.Errorf("with no names: %v, %+v", err, st.Infos())
	}
}
