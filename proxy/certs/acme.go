package certs

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"
)

// ACMEConfig says which certificates are obtained by ACME (RFC 8555), and from whom.
type ACMEConfig struct {
	// Domains each get a certificate of their own. Who asks for none gets that of the
	// first. Empty: nothing is obtained.
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
	now atomic.Pointer[orders]

	mu   sync.Mutex   // one Reload at a time
	next chan *orders // what Run is to work on
}

// NewACME reads what was obtained before. Run or Close ends it.
func NewACME(cfg ACMEConfig) (*ACME, error) {
	a := &ACME{next: make(chan *orders, 1)}
	if err := a.Reload(cfg); err != nil {
		return nil, err
	}
	return a, nil
}

// Reload has certificates obtained by another configuration from now on. What was obtained
// by the last one is shown until there is another one for the name. With an error nothing
// changes.
func (a *ACME) Reload(cfg ACMEConfig) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	last := a.now.Load()
	if last != nil && reflect.DeepEqual(last.cfg, cfg) {
		return nil
	}
	o, err := newOrders(cfg)
	if err != nil {
		return err
	}
	if last != nil {
		o.before = last.latest()
		close(last.replaced)
	}
	a.Close()
	a.now.Store(o)
	a.next <- o
	return nil
}

// Run obtains and renews until ctx ends.
func (a *ACME) Run(ctx context.Context) error {
	var group sync.WaitGroup
	defer group.Wait()
	defer a.Close()
	for {
		select {
		case <-ctx.Done():
			return nil
		case o := <-a.next:
			group.Go(func() { o.run(ctx) })
		}
	}
}

// Close ends what NewACME has begun, where Run was not reached.
func (a *ACME) Close() {
	select {
	case o := <-a.next:
		o.close()
	default:
	}
}

// certificate returns what was obtained for the name that a client asks for, or the answer
// to a challenge.
func (a *ACME) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	return a.now.Load().certificate(hello)
}

func (a *ACME) infos() []Info { return a.now.Load().infos() }

// orders are what is obtained by one configuration.
type orders struct {
	cfg    ACMEConfig
	cache  *certmagic.Cache
	magic  *certmagic.Config // nil: nothing is to be obtained
	before *certmagic.Config // of the latest configuration before this one that has obtained something; may be nil

	replaced chan struct{} // closed when there is another one
	outcomes *outcomes
}

func newOrders(cfg ACMEConfig) (*orders, error) {
	o := &orders{cfg: cfg, replaced: make(chan struct{}), outcomes: &outcomes{log: cfg.Log, failed: map[string]string{}}}
	if len(cfg.Domains) == 0 {
		return o, nil
	}
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
	var magic *certmagic.Config // nothing in here leads to o, or to what was before it
	o.cache = certmagic.NewCache(certmagic.CacheOptions{
		GetConfigForCert:   func(certmagic.Certificate) (*certmagic.Config, error) { return magic, nil },
		RenewCheckInterval: cfg.check, Logger: log,
	})
	magic = certmagic.New(o.cache, certmagic.Config{
		Storage: &certmagic.FileStorage{Path: cfg.Dir}, Logger: log, OnEvent: o.outcomes.told,
		DefaultServerName: cfg.Domains[0], FallbackServerName: cfg.Domains[0],
		// Authorities give it up, and phones do not look for it.
		OCSP: certmagic.OCSPConfig{DisableStapling: true},
	})
	magic.Issuers = []certmagic.Issuer{certmagic.NewACMEIssuer(magic, issuer)}
	o.magic = magic
	for _, d := range cfg.Domains {
		if _, err := magic.CacheManagedCertificate(context.Background(), d); err != nil && !errors.Is(err, fs.ErrNotExist) {
			cfg.Log.Warn("a certificate that was obtained before cannot be used, another one will be obtained", "domain", d, "err", err)
		}
	}
	return o, nil
}

// latest returns what has obtained something, or did so before; nil: nothing has.
func (o *orders) latest() *certmagic.Config {
	if o.magic != nil && slices.ContainsFunc(o.cfg.Domains, func(d string) bool { return len(o.cache.AllMatchingCertificates(d)) > 0 }) {
		return o.magic
	}
	return o.before
}

// run obtains and renews until ctx ends or there is another configuration.
func (o *orders) run(ctx context.Context) {
	defer o.close()
	if o.magic == nil {
		return
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	begun := make(chan struct{})
	go func() {
		defer close(begun)
		o.begin(ctx)
	}()
	select {
	case <-ctx.Done():
	case <-o.replaced:
	}
	stop()
	<-begun
}

func (o *orders) begin(ctx context.Context) {
	if err := o.magic.ManageAsync(ctx, o.cfg.Domains); err != nil {
		o.cfg.Log.Warn("certificates cannot be obtained", "err", err)
	}
	// What was obtained before may have expired while sipward was down.
	if err := o.cache.RenewManagedCertificates(ctx); err != nil {
		o.cfg.Log.Warn("certificates could not be renewed at the start", "err", err)
	}
}

func (o *orders) close() {
	if o.cache != nil {
		o.cache.Stop()
	}
}

// outcomes is what has become of attempts.
type outcomes struct {
	log *slog.Logger

	mu     sync.Mutex
	failed map[string]string // by domain: why there is none, or no newer one
}

// told hears from certmagic what has become of an attempt.
func (x *outcomes) told(_ context.Context, event string, data map[string]any) error {
	domain, _ := data["identifier"].(string)
	x.mu.Lock()
	defer x.mu.Unlock()
	switch event {
	case "cert_obtained":
		delete(x.failed, domain)
		x.log.Info("a certificate was obtained", "domain", domain)
	case "cert_failed":
		err, _ := data["error"].(error)
		x.failed[domain] = fmt.Sprint(err)
		x.log.Warn("a certificate could not be obtained, sipward tries again", "domain", domain, "err", err)
	}
	return nil
}

func (o *orders) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if o.magic == nil {
		return nil, ErrNoCertificate
	}
	c, err := o.magic.GetCertificate(hello)
	name := cmp.Or(strings.ToLower(hello.ServerName), o.cfg.Domains[0])
	if o.before == nil || err == nil && covers(c, name) || !slices.Contains(o.cfg.Domains, name) {
		return c, err
	}
	if old, gone := o.before.GetCertificate(hello); gone == nil && covers(old, name) {
		return old, nil
	}
	return c, err
}

// covers says whether a certificate is for a name, or the answer to a challenge about it.
func covers(c *tls.Certificate, name string) bool {
	return c.Leaf == nil || c.Leaf.VerifyHostname(name) == nil
}

func (o *orders) infos() []Info {
	o.outcomes.mu.Lock()
	defer o.outcomes.mu.Unlock()
	var all []Info
	for _, d := range o.cfg.Domains {
		i := Info{Source: "acme", Names: []string{d}}
		for _, c := range o.cache.AllMatchingCertificates(d) {
			if c.Leaf != nil && c.Leaf.NotAfter.After(i.NotAfter) {
				i.NotBefore, i.NotAfter = c.Leaf.NotBefore, c.Leaf.NotAfter
			}
		}
		i.Failed = o.outcomes.failed[d]
		all = append(all, i)
	}
	return all
}
