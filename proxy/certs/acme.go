package certs

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"
)

// ACMEConfig says which certificates are obtained by ACME (RFC 8555), and from whom.
type ACMEConfig struct {
	// Domains each get a certificate of their own; at least one. Who asks for none gets
	// that of the first.
	Domains []string
	// Email is where the authority writes to. Empty: nowhere.
	Email string
	// Directory is the URL of the authority.
	Directory string
	// CA names the PEM file that the directory's own certificate is checked against.
	// Empty: what the system trusts.
	CA string
	// TLSALPN has the authority look for its answer in a TLS handshake (RFC 8737) and not
	// by HTTP.
	TLSALPN bool
	// Port is where the authority's question arrives, which is opened while one is
	// expected. One of sipward's own TLS listeners answers in its place if it has the port
	// and TLSALPN is set. Zero: 80, or 443 with TLSALPN.
	Port int
	// Host is the address on which it arrives, that of sipward's own TLS listener if that
	// answers. Empty: all addresses.
	Host string
	// Dir is the folder where the account, keys and certificates are kept. Whoever reads it
	// can be us.
	Dir string
	// Log hears of what is obtained, and what not.
	Log *slog.Logger

	check time.Duration // between two looks whether one is to be renewed; zero: the library's
}

// ACME obtains certificates and renews them when a third of their time is left, or when
// the authority asks for it (RFC 9773). It implements Run(ctx) error.
type ACME struct {
	cfg   ACMEConfig
	cache *certmagic.Cache
	magic *certmagic.Config

	mu     sync.Mutex
	failed map[string]string // by domain: why there is none, or no newer one
}

// NewACME reads what was obtained before. Run or Close ends it.
func NewACME(cfg ACMEConfig) (*ACME, error) {
	a := &ACME{cfg: cfg, failed: map[string]string{}}
	issuer := certmagic.ACMEIssuer{
		CA: cfg.Directory, Email: cfg.Email, Agreed: true,
		DisableHTTPChallenge: cfg.TLSALPN, DisableTLSALPNChallenge: !cfg.TLSALPN,
		AltHTTPPort: cfg.Port, AltTLSALPNPort: cfg.Port, ListenHost: cfg.Host,
	}
	if cfg.CA != "" {
		var err error
		if issuer.TrustedRoots, err = loadAuthorities("acme.ca_file", cfg.CA); err != nil {
			return nil, err
		}
	}
	log := zap.New(zapCore{cfg.Log})
	issuer.Logger = log
	a.cache = certmagic.NewCache(certmagic.CacheOptions{
		GetConfigForCert:   func(certmagic.Certificate) (*certmagic.Config, error) { return a.magic, nil },
		RenewCheckInterval: cfg.check, Logger: log,
	})
	a.magic = certmagic.New(a.cache, certmagic.Config{
		Storage: &certmagic.FileStorage{Path: cfg.Dir}, Logger: log, OnEvent: a.told,
		DefaultServerName: cfg.Domains[0], FallbackServerName: cfg.Domains[0],
		// Authorities give it up, and phones do not look for it.
		OCSP: certmagic.OCSPConfig{DisableStapling: true},
	})
	a.magic.Issuers = []certmagic.Issuer{certmagic.NewACMEIssuer(a.magic, issuer)}
	for _, d := range cfg.Domains {
		if _, err := a.magic.CacheManagedCertificate(context.Background(), d); err != nil && !errors.Is(err, fs.ErrNotExist) {
			cfg.Log.Warn("a certificate that was obtained before cannot be used, another one will be obtained", "domain", d, "err", err)
		}
	}
	return a, nil
}

// Run obtains and renews until ctx ends.
func (a *ACME) Run(ctx context.Context) error {
	defer a.Close()
	if err := a.magic.ManageAsync(ctx, a.cfg.Domains); err != nil {
		return fmt.Errorf("obtain certificates: %w", err)
	}
	// What was obtained before may have expired while sipward was down.
	if err := a.cache.RenewManagedCertificates(ctx); err != nil {
		a.cfg.Log.Warn("certificates could not be renewed at the start", "err", err)
	}
	<-ctx.Done()
	return nil
}

// Close ends what NewACME has begun, where Run was not reached.
func (a *ACME) Close() { a.cache.Stop() }

// told hears from certmagic what has become of an attempt.
func (a *ACME) told(_ context.Context, event string, data map[string]any) error {
	domain, _ := data["identifier"].(string)
	a.mu.Lock()
	defer a.mu.Unlock()
	switch event {
	case "cert_obtained":
		delete(a.failed, domain)
		a.cfg.Log.Info("a certificate was obtained", "domain", domain)
	case "cert_failed":
		err, _ := data["error"].(error)
		a.failed[domain] = fmt.Sprint(err)
		a.cfg.Log.Warn("a certificate could not be obtained, sipward tries again", "domain", domain, "err", err)
	}
	return nil
}

// certificate returns what was obtained for the name that a client asks for, or the answer
// to a challenge.
func (a *ACME) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	return a.magic.GetCertificate(hello)
}

func (a *ACME) infos() []Info {
	a.mu.Lock()
	defer a.mu.Unlock()
	var all []Info
	for _, d := range a.cfg.Domains {
		i := Info{Source: "acme", Names: []string{d}}
		for _, c := range a.cache.AllMatchingCertificates(d) {
			if c.Leaf != nil && c.Leaf.NotAfter.After(i.NotAfter) {
				i.NotBefore, i.NotAfter = c.Leaf.NotBefore, c.Leaf.NotAfter
			}
		}
		i.Failed = a.failed[d]
		all = append(all, i)
	}
	return all
}
