package conf

import (
	"fmt"
	"net/url"
	glob "path"
	"slices"
	"strings"
	"time"
)

// WebSocket is about web pages that are phones.
type WebSocket struct {
	// Origins are the origins of pages that may connect beside those from the host and
	// port that they connect to: scheme://host, scheme://host:port, host or host:port, in
	// which * stands for any characters but a slash; or * alone for all.
	Origins []string
	// PingInterval is the time between pings. Zero: there are none.
	PingInterval time.Duration
}

// DTLS holds the caps of associations.
type DTLS struct {
	// MaxAssociations is how many there may be in all.
	MaxAssociations int
	// MaxPerSource is how many of them one source may hold; not above MaxAssociations.
	MaxPerSource int
	// IdleTimeout is how long one may be silent.
	IdleTimeout time.Duration
}

// webKeys are about WebSocket and DTLS.
func webKeys() []key {
	origins := listOf("list of origins", word("origin", originRule))
	return []key{
		bind("websocket.origins", "[]", onRestart, origins, func(c *Config) *[]string { return &c.WebSocket.Origins }),
		bind("websocket.ping_interval", "30s", onRestart, duration(0, time.Hour), func(c *Config) *time.Duration { return &c.WebSocket.PingInterval }),
		bind("dtls.max_associations", "10000", onRestart, wholeNumber(1, 1_000_000), func(c *Config) *int { return &c.DTLS.MaxAssociations }),
		bind("dtls.max_per_source", "100", onRestart, wholeNumber(1, 1_000_000), func(c *Config) *int { return &c.DTLS.MaxPerSource }),
		bind("dtls.idle_timeout", "65m", onRestart, duration(time.Second, 24*time.Hour), func(c *Config) *time.Duration { return &c.DTLS.IdleTimeout }),
	}
}

// originRule allows an origin (RFC 6454 §6.2), or a pattern of them.
func originRule(text string) error {
	if text == "*" {
		return nil
	}
	host := text
	if scheme, rest, ok := strings.Cut(text, "://"); ok {
		if host = rest; scheme != "http" && scheme != "https" {
			return fmt.Errorf("%s is not the origin of a web page; write one such as https://phone.example.com", quote(text))
		}
	}
	u, err := url.Parse("//" + strings.ReplaceAll(host, "*", "x"))
	_, bad := glob.Match(text, "")
	switch {
	case err != nil || bad != nil || u.Hostname() == "" || u.User != nil:
		return fmt.Errorf("%s is not an origin; write scheme and host of the page, such as https://phone.example.com", quote(text))
	case strings.ContainsAny(host, "/?#"):
		return fmt.Errorf("%s has a path; write scheme and host of the page alone, such as https://phone.example.com", quote(text))
	}
	return nil
}

func (d *decoder) checkWeb(c *Config) {
	if d.clean("dtls.max_associations", "dtls.max_per_source") && c.DTLS.MaxPerSource > c.DTLS.MaxAssociations {
		d.fail(d.at("dtls.max_per_source", "dtls.max_associations"), "dtls.max_per_source", "%d is more than dtls.max_associations (%d); make it smaller", c.DTLS.MaxPerSource, c.DTLS.MaxAssociations)
	}
	if c.Mode != ModeProxy || !d.clean("listen.outside", "websocket.origins") {
		return
	}
	web := slices.ContainsFunc(c.Listen.Outside, func(l Listener) bool { return l.Transport.Web() })
	if len(c.WebSocket.Origins) > 0 && !web {
		d.fail(d.at("websocket.origins"), "listen.outside", "no web page could connect; add wss://ADDRESS:443, or remove the origins")
	}
}
