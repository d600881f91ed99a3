package certs

import (
	"crypto/tls"
	"crypto/x509"
	"slices"
	"strings"
)

// Identities returns the SIP domains that a certificate is for, in small letters
// (RFC 5922 §7.1): the sip URIs without a user in its subject alternative names or, if
// there are none, the DNS names. The common name is never one. Wildcards are in it, but
// match nothing (§7.2).
func Identities(c *x509.Certificate) []string {
	var all []string
	for _, u := range c.URIs {
		if !strings.EqualFold(u.Scheme, "sip") || u.Opaque == "" || strings.Contains(u.Opaque, "@") {
			continue
		}
		host := u.Opaque
		if i := strings.IndexAny(host, ";?:"); i >= 0 {
			host = host[:i]
		}
		all = append(all, canonical(host))
	}
	if len(all) > 0 {
		return all
	}
	for _, n := range c.DNSNames {
		all = append(all, canonical(n))
	}
	return all
}

func canonical(host string) string { return strings.ToLower(strings.TrimSuffix(host, ".")) }

// matches compares as RFC 5922 §7.2 asks: the whole name, whatever the case of its
// letters, no part of it and no wildcard.
func matches(identities []string, name string) bool {
	if name = canonical(name); strings.Contains(name, "*") {
		return false
	}
	for _, id := range identities {
		if id == name {
			return true
		}
	}
	return false
}

// Verified returns the SIP domains that a client has shown to be, none if it has shown no
// certificate, or one that is not trusted. It is anew each time, so that a connection that
// was resumed is held to the authorities in force.
func (s *Set) Verified(c *tls.ConnectionState) []string {
	if s.clientCA == nil || len(c.PeerCertificates) == 0 || s.verifyClient(c) != nil {
		return nil
	}
	return Identities(c.PeerCertificates[0])
}

// VerifiedAs says whether a client has shown to be one of these SIP domains.
func (s *Set) VerifiedAs(c *tls.ConnectionState, domains []string) bool {
	who := s.Verified(c)
	return slices.ContainsFunc(domains, func(d string) bool { return matches(who, d) })
}

func (s *Set) verifyClient(c *tls.ConnectionState) error {
	opts := x509.VerifyOptions{
		Roots: s.clientCA, Intermediates: x509.NewCertPool(),
		// Public authorities issue for servers alone, and a carrier is both (RFC 5922 §4.1
		// asks for neither).
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	for _, more := range c.PeerCertificates[1:] {
		opts.Intermediates.AddCert(more)
	}
	_, err := c.PeerCertificates[0].Verify(opts)
	return err
}
