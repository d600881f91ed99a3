package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"sipward/admin"
	"sipward/conf"
	"sipward/policy"
	"sipward/proxy/certs"
)

// credentials are the certificates of a configuration, read from its files.
type credentials struct {
	certs    *certs.Set
	peers    []*tls.Config // of each PBX; nil: it is not spoken to over TLS
	carriers *certs.Trunks
}

var tlsVersions = map[conf.TLSVersion]uint16{conf.TLS12: tls.VersionTLS12, conf.TLS13: tls.VersionTLS13}

// loadCredentials reads the files; what is wrong with one is said with the place of its name
// in the configuration.
func loadCredentials(c *conf.Config) (credentials, error) {
	cfg := certs.Config{
		MinVersion: tlsVersions[c.TLS.MinVersion], ClientCA: c.TLS.ClientCA,
		ClientAuth: map[conf.ClientAuth]certs.ClientAuth{
			conf.ClientAuthRequest: certs.RequestClientAuth, conf.ClientAuthRequire: certs.RequireClientAuth,
		}[c.TLS.ClientAuth],
	}
	for _, p := range c.TLS.Certificates {
		cfg.Pairs = append(cfg.Pairs, certs.Pair{Certificate: p.Certificate, Key: p.Key})
	}
	var all credentials
	var errs []error
	var err error
	if all.certs, err = certs.Load(cfg); err != nil {
		errs = append(errs, placed(c, "tls.", err)...)
	}
	if all.carriers, err = certs.LoadTrunks(c.TLS.TrunkCA, cfg.MinVersion); err != nil {
		errs = append(errs, placed(c, "tls.", err)...)
	}
	for i := range c.PBX {
		peer, err := loadPeer(&c.PBX[i], cfg.MinVersion)
		if err != nil {
			errs = append(errs, placed(c, fmt.Sprintf("pbx[%d].tls.", i), err)...)
		}
		all.peers = append(all.peers, peer)
	}
	return all, errors.Join(errs...)
}

func loadPeer(p *conf.PBX, minVersion uint16) (*tls.Config, error) {
	if !p.Speaks(conf.TransportTLS) {
		return nil, nil
	}
	peer := certs.Peer{Addr: p.Address.Addr(), Name: p.TLS.Name, CA: p.TLS.CA, MinVersion: minVersion}
	for _, pin := range p.TLS.Pins {
		peer.Pins = append(peer.Pins, certs.Pin(pin))
	}
	return certs.NewPeer(peer)
}

// placed gives what is wrong with files its place in the configuration.
func placed(c *conf.Config, section string, err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var all []error
		for _, e := range joined.Unwrap() {
			all = append(all, placed(c, section, e)...)
		}
		return all
	}
	if f, ok := errors.AsType[*certs.FileError](err); ok {
		return []error{c.Problem(section+f.Field, f.Text)}
	}
	return []error{err}
}

// trunkTLS returns the configuration for a connection to a trunk.
func (e *edge) trunkTLS(host string) *tls.Config {
	cfg := e.carriers.Load().TLS(host)
	cfg.GetClientCertificate = e.store.ClientCertificate
	return cfg
}

// certified says whether a client's certificate makes it a trunk; nil: none does.
func certified(c *configuration) func(*tls.ConnectionState) bool {
	if len(c.conf.TLS.Trunks) == 0 {
		return nil
	}
	return func(s *tls.ConnectionState) bool { return c.certs.VerifiedAs(s, c.conf.TLS.Trunks) }
}

// certificateFiles returns the files that loadCredentials reads.
func certificateFiles(c *conf.Config) []string {
	all := []string{c.TLS.ClientCA, c.TLS.TrunkCA}
	for _, p := range c.TLS.Certificates {
		all = append(all, p.Certificate, p.Key)
	}
	for _, p := range c.PBX {
		all = append(all, p.TLS.CA)
	}
	return slices.DeleteFunc(all, func(name string) bool { return name == "" })
}

// certificateWarnings says what is wrong with certificates that can be used.
func certificateWarnings(c *configuration, now time.Time) []conf.Problem {
	var all []conf.Problem
	for _, i := range c.certs.Infos() {
		if text := i.Warning(now); text != "" {
			all = append(all, c.conf.Problem("tls."+i.Source, "the certificate "+ofNames(i.Names)+" "+text))
		}
	}
	for _, l := range c.conf.Listen.Outside {
		host := c.conf.Listen.Advertise[l].Host
		if _, err := netip.ParseAddr(host); !l.Transport.Certified() || host == "" || err == nil {
			continue
		}
		if !c.certs.Covers(host) && !slices.Contains(c.conf.TLS.ACME.Domains, strings.ToLower(host)) {
			all = append(all, c.conf.Problem("listen.advertise", fmt.Sprintf("phones are told that %s is %s, and no certificate is for that name; they will refuse it", l, host)))
		}
	}
	return all
}

func ofNames(names []string) string {
	const most = 3
	text := strings.Join(names[:min(len(names), most)], ", ")
	if len(names) > most {
		text += ", …"
	}
	return "(" + safe(text) + ")"
}

// acmeConfig says what is to be obtained.
func acmeConfig(c *conf.Config, log *slog.Logger) certs.ACMEConfig {
	a := &c.TLS.ACME
	host := ""
	if l, ok := c.ChallengeListener(); ok && !l.Addr.Addr().IsUnspecified() {
		host = l.Addr.Addr().String()
	}
	return certs.ACMEConfig{
		Domains: a.Domains, Email: a.Email, Directory: a.Directory, CA: a.CAFile,
		TLSALPN: a.Challenge == conf.ChallengeTLS, Port: a.Port, Host: host, Dir: filepath.Join(c.StateDir, "acme"), Log: log,
	}
}

// openCertificates puts the certificates of the configuration in force.
func (e *edge) openCertificates() error {
	var err error
	if e.acme, err = certs.NewACME(acmeConfig(e.config.conf, e.log)); err != nil {
		return errors.Join(placed(e.config.conf, "tls.", err)...)
	}
	e.store = certs.NewStore(e.config.certs, e.acme)
	e.carriers.Store(e.config.carriers)
	return nil
}

// closeACME ends what openCertificates has begun, where Run was not reached.
func (e *edge) closeACME() {
	if e.acme != nil {
		e.acme.Close()
	}
}

// lookAtCertificates is how often it is looked whether one expires soon.
const lookAtCertificates = time.Minute

// watchCertificates tells administrators when a certificate has expired or will soon, and
// when that is over.
func (e *edge) watchCertificates(ctx context.Context) error {
	tick := time.NewTicker(lookAtCertificates)
	defer tick.Stop()
	told := ""
	for {
		now, state, text := time.Now(), "", []string{}
		for _, i := range e.store.Infos() {
			if w := i.Warning(now); w != "" {
				text = append(text, fmt.Sprintf("The certificate %s of tls.%s %s.", ofNames(i.Names), i.Source, safe(w)))
				i.Failed = "" // in other words at each attempt
				state += i.Source + ofNames(i.Names) + i.Warning(now) + "\n"
			}
		}
		if state != told {
			n := policy.Notice{Time: now.UnixNano(), Kind: policy.NoticeCertificate, Text: strings.Join(text, " "), Commands: []string{"sipward status"}}
			if state == "" {
				n.Kind, n.Quiet, n.Text = policy.NoticeCertificateFine, true, "No certificate expires soon any more."
			}
			e.engine.Tell(n)
			told = state
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func certificateStatus(store *certs.Store, now time.Time) []admin.Certificate {
	all := []admin.Certificate{}
	for _, i := range store.Infos() {
		c := admin.Certificate{Source: "tls." + i.Source, Names: append([]string{}, i.Names...), From: i.NotBefore, Until: i.NotAfter, Warning: i.Warning(now)}
		if !i.NotAfter.IsZero() {
			c.DaysLeft = i.Days(now)
		}
		all = append(all, c)
	}
	return all
}
