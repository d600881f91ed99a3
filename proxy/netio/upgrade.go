package netio

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"

	"github.com/coder/websocket"
)

// Why an upgrade to WebSocket failed, as StreamHandler.HandshakeFailed is told.
var (
	ErrUpgrade = errors.New("netio: no upgrade to WebSocket")
	ErrOrigin  = errors.New("netio: WebSocket of a web page from another origin")
)

const (
	subprotocol = "sip" // RFC 7118 §4.1
	maxUpgrade  = 8 << 10

	recordHandshake = 22 // the first byte of a ClientHello (RFC 8446 §5.1, RFC 6347 §4.1)

	maxCause = 120 // of what a stranger's request is called by the libraries
)

// upgrade answers the HTTP request that makes a WebSocket of the connection
// (RFC 6455 §4.2).
func (l *webLayer) upgrade() error {
	head := &io.LimitedReader{R: &l.under, N: maxUpgrade}
	br := bufio.NewReaderSize(head, webReadBuffer)
	w := &upgradeWriter{conn: &l.under, header: make(http.Header), br: br}
	first, err := br.Peek(1)
	if err != nil {
		return err
	}
	if first[0] < 'A' || first[0] > 'Z' { // do not wait for a line end
		text := "no HTTP request"
		if l.tls == nil && first[0] == recordHandshake {
			text = "TLS on a port for WebSocket in the clear"
		}
		return fmt.Errorf("%w: %s", ErrUpgrade, text)
	}
	r, err := http.ReadRequest(br)
	if err != nil {
		return l.unreadable(w, err, head.N == 0)
	}
	if !offers(r.Header, subprotocol) {
		text := "the client does not offer the subprotocol sip (RFC 7118)"
		http.Error(w, text, http.StatusBadRequest)
		return fmt.Errorf("%w: %s", ErrUpgrade, text)
	}
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{
		Subprotocols:       []string{subprotocol},
		OriginPatterns:     l.cfg.Origins,
		InsecureSkipVerify: slices.Contains(l.cfg.Origins, "*"),
		OnPingReceived:     l.pinged,
		OnPongReceived:     l.ponged,
	})
	if err != nil {
		if w.status == http.StatusForbidden {
			return fmt.Errorf("%w: %s", ErrOrigin, brief(r.Header.Get("Origin")))
		}
		return fmt.Errorf("%w: %s", ErrUpgrade, brief(err.Error()))
	}
	conn.SetReadLimit(-1) // take has its own
	l.mu.Lock()
	l.conn = conn
	l.mu.Unlock()
	return nil
}

// unreadable refuses what http.ReadRequest has refused with err.
func (l *webLayer) unreadable(w *upgradeWriter, err error, full bool) error {
	text := err.Error()
	switch {
	case full:
		http.Error(w, "request too large", http.StatusRequestHeaderFieldsTooLarge)
		return fmt.Errorf("%w: request over %d bytes", ErrUpgrade, maxUpgrade)
	case l.under.err != nil: // the deadline, or the other side has closed it
		return l.under.err
	case strings.Contains(text, "SIP/2.0"):
		return fmt.Errorf("%w: plain SIP on a WebSocket port", ErrUpgrade)
	}
	http.Error(w, "bad request", http.StatusBadRequest)
	return fmt.Errorf("%w: %s", ErrUpgrade, brief(text))
}

// offers reports whether the client offers a subprotocol.
func offers(h http.Header, protocol string) bool {
	for _, line := range h.Values("Sec-WebSocket-Protocol") {
		for p := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(p), protocol) {
				return true
			}
		}
	}
	return false
}

// brief is the beginning of a text with a stranger's words in it.
func brief(text string) string {
	if len(text) > maxCause {
		return text[:maxCause] + "…"
	}
	return text
}

// upgradeWriter writes the answer; after an error that ends the connection.
type upgradeWriter struct {
	conn   net.Conn
	header http.Header
	br     *bufio.Reader
	status int
}

var (
	_ http.ResponseWriter = (*upgradeWriter)(nil)
	_ http.Hijacker       = (*upgradeWriter)(nil)
)

// Header implements http.ResponseWriter.
func (w *upgradeWriter) Header() http.Header { return w.header }

// WriteHeader implements http.ResponseWriter.
func (w *upgradeWriter) WriteHeader(status int) {
	w.status = status
	if status != http.StatusSwitchingProtocols && w.header.Get("Connection") == "" {
		w.header.Set("Connection", "close")
	}
	var b strings.Builder
	fmt.Fprintf(&b, "HTTP/1.1 %d %s\r\n", status, http.StatusText(status))
	_ = w.header.Write(&b)
	b.WriteString("\r\n")
	_, _ = io.WriteString(w.conn, b.String())
}

// Write implements http.ResponseWriter.
func (w *upgradeWriter) Write(b []byte) (int, error) { return w.conn.Write(b) }

// Hijack implements http.Hijacker.
func (w *upgradeWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return w.conn, bufio.NewReadWriter(w.br, bufio.NewWriterSize(w.conn, webWriteBuffer)), nil
}
