package main

import (
	"log/slog"
	"net/netip"
	"time"

	"sipward/admin"
	"sipward/conf"
	"sipward/policy"
	"sipward/policy/rate"
	"sipward/proxy"
	"sipward/proxy/certs"
	"sipward/proxy/netio"
	"sipward/proxy/upstream"
	"sipward/proxy/upstream/resolve"
)

var transports = map[conf.Transport]policy.Transport{
	conf.TransportUDP: policy.UDP, conf.TransportTCP: policy.TCP, conf.TransportTLS: policy.TLS,
	conf.TransportWS: policy.WS, conf.TransportWSS: policy.WSS, conf.TransportDTLS: policy.DTLS,
}

// proxyListeners maps listeners with what they advertise, and the certificates that those
// show that need one.
func proxyListeners(c *conf.Config, list []conf.Listener, store *certs.Store) []proxy.Listener {
	var out []proxy.Listener
	for _, l := range list {
		p := proxy.Listener{Transport: transports[l.Transport], Addr: l.Addr}
		if l.Transport.Certified() && !l.Transport.Datagrams() {
			p.TLS = store.TLS()
		}
		if l.Transport.Web() {
			p.WebSocket = &netio.WebSocket{Origins: c.WebSocket.Origins, PingInterval: c.WebSocket.PingInterval}
		}
		if a, ok := c.Listen.Advertise[l]; ok {
			if a.Port == 0 {
				a.Port = l.Addr.Port()
			}
			p.Advertise = a.String()
		}
		out = append(out, p)
	}
	return out
}

// tcpConfig maps the caps of connections. PBXes, trunks and whoever is on the allow list have no
// cap of their own, and nobody in good standing makes room for others.
func tcpConfig(c *conf.Config, e *policy.Engine) netio.TCPConfig {
	bits := c.IPv6SourcePrefix
	shakes := rate.NewLimiter(rate.Config{Sources: 1 << 14, IPv6Bits: bits})
	shaking := rate.PerSecond(float64(c.TLS.HandshakeRate), c.TLS.HandshakeBurst)
	return netio.TCPConfig{
		MaxConns: c.TCP.MaxConnections, MaxPerSource: c.TCP.MaxPerSource,
		HandshakeTimeout: c.TLS.HandshakeTimeout, MaxHandshakes: c.TLS.MaxHandshakes, MaxHandshakesPerSource: c.TLS.MaxHandshakesPerSource,
		MaxHeader: c.TCP.MaxHeader, MaxMessage: c.TCP.MaxMessage,
		MessageTimeout: c.TCP.MessageTimeout, IdleTimeout: c.TCP.IdleTimeout, WriteTimeout: c.TCP.WriteTimeout,
		SourceKey: func(a netip.Addr) netip.Addr {
			if a.Is4() {
				return a
			}
			p, _ := a.Prefix(bits) // bits are in range, conf has seen to it
			return p.Addr()
		},
		Exempt:   func(a netip.Addr) bool { return e.Standing(a, time.Now().UnixNano()) >= policy.Trunk },
		Keep:     func(a netip.Addr) bool { return e.Standing(a, time.Now().UnixNano()) != policy.Stranger },
		MayShake: func(a netip.Addr) bool { return shakes.Allow(a, time.Now().UnixNano(), shaking) },
	}
}

// dtlsConfig maps the caps of associations, which count as connections do.
func dtlsConfig(c *conf.Config, tcp netio.TCPConfig, store *certs.Store) netio.DTLSConfig {
	tcp.MaxConns, tcp.MaxPerSource, tcp.IdleTimeout = c.DTLS.MaxAssociations, c.DTLS.MaxPerSource, c.DTLS.IdleTimeout
	return netio.DTLSConfig{Conns: tcp, TLS: store.TLS(), ReceiveBuffer: c.UDP.ReceiveBuffer}
}

func accessConfig(c conf.Control) admin.AccessConfig {
	cfg := admin.AccessConfig{Certificate: c.Certificate, Key: c.CertificateKey, Hosts: c.Hosts}
	for _, t := range c.Tokens {
		role := admin.Read
		if t.Role == conf.TokenWrite {
			role = admin.Write
		}
		cfg.Tokens = append(cfg.Tokens, admin.Token{Name: t.Name, Role: role, Hash: t.Hash})
	}
	return cfg
}

// poolConfig maps the PBXes. Those that ask for a certificate over TLS are shown the store's.
func poolConfig(full *configuration, store *certs.Store, log *slog.Logger) upstream.Config {
	c := full.conf
	cfg := upstream.Config{
		Interval: probeInterval(c), Timeout: c.Health.Timeout, Fall: c.Health.Fall, Rise: c.Health.Rise,
		Logger: log,
	}
	if c.Health.Probe == conf.ProbeTCP {
		cfg.Transport = policy.TCP
	}
	for i, p := range c.PBX {
		t := upstream.Target{Address: p.Address, Weight: p.Weight, UDP: p.Speaks(conf.TransportUDP), TCP: p.Speaks(conf.TransportTCP)}
		if peer := full.peers[i]; peer != nil {
			t.TLS, t.TLSPort = peer.Clone(), uint16(p.TLS.Port)
			t.TLS.GetClientCertificate = store.ClientCertificate
		}
		cfg.PBXes = append(cfg.PBXes, t)
	}
	return cfg
}

func resolverConfig(c *conf.Config) resolve.Config {
	cfg := resolve.Config{Timeout: c.Resolver.Timeout, Cache: c.Resolver.CacheEntries, NoIPv4: true, NoIPv6: true}
	for _, s := range c.Resolver.Nameservers {
		cfg.Servers = append(cfg.Servers, s.String())
	}
	for _, l := range c.Listen.Outside { // only the families that trunks can be reached with
		if l.Addr.Addr().Is4() {
			cfg.NoIPv4 = false
		} else {
			cfg.NoIPv6 = false
		}
	}
	return cfg
}

// probeInterval is negative for no probes: in transparent mode a message goes to the PBX
// that it is addressed to, up or not.
func probeInterval(c *conf.Config) time.Duration {
	if c.Health.Probe == conf.ProbeOff || c.Mode == conf.ModeTransparent {
		return -1
	}
	return c.Health.Interval
}
