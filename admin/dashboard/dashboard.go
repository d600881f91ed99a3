// Package dashboard is the web page of a sipward: what passes and what is stopped at
// this moment, the bans and why, and reports. It is mounted beside the control API and
// asks nothing but that API, with the session that a token has opened; its files are
// part of the program and load nothing from anywhere else.
package dashboard

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"slices"
	"strings"

	"sipward/admin"
)

// Dashboard serves the page. What it serves everybody may read; what the page shows
// needs a token.
type Dashboard struct {
	series *Series
	links  *links
	assets map[string]*asset
}

//go:embed web
var embedded embed.FS

// New makes a Dashboard that draws its charts from series.
func New(series *Series) (*Dashboard, error) {
	d := &Dashboard{series: series, links: newLinks(), assets: map[string]*asset{}}
	err := fs.WalkDir(embedded, "web", func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		body, err := embedded.ReadFile(name)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(body)
		d.assets[path.Base(name)] = &asset{body: body, kind: kindOf(name), etag: `"` + hex.EncodeToString(sum[:12]) + `"`}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the files of the dashboard: %w", err)
	}
	return d, nil
}

// Mounts says where the page is served.
func (d *Dashboard) Mounts() []admin.Mount {
	all := []admin.Mount{
		{Pattern: "GET /{$}", Handler: d.assets["index.html"]},
		{Pattern: "POST /ui/link", Handler: http.HandlerFunc(d.redeem)},
		{Pattern: "GET /ui/series", Need: admin.Read, Handler: d.series},
	}
	for name, a := range d.assets {
		all = append(all, admin.Mount{Pattern: "GET /ui/" + name, Handler: a})
	}
	slices.SortFunc(all, func(a, b admin.Mount) int { return strings.Compare(a.Pattern, b.Pattern) })
	return all
}

// contentPolicy lets the page load what this program serves, and nothing else: a text
// that became markup by mistake could still neither run nor tell anybody.
const contentPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"form-action 'none'; frame-ancestors 'none'; base-uri 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// asset is one file of the page.
type asset struct {
	body       []byte
	kind, etag string
}

var _ http.Handler = (*asset)(nil)

// kindOf does not ask the system for what matters, since its tables differ.
func kindOf(name string) string {
	switch path.Ext(name) {
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	}
	return mime.TypeByExtension(path.Ext(name))
}

// ServeHTTP implements http.Handler. The browser asks each time whether a file has
// changed, so a new sipward never meets an old page.
func (a *asset) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", contentPolicy)
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()")
	h.Set("Cache-Control", "no-cache")
	h.Set("ETag", a.etag)
	if r.Header.Get("If-None-Match") == a.etag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Type", a.kind)
	w.Write(a.body) // a browser that went away needs no answer
}
