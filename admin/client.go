package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// ErrUnreachable is wrapped when no sipward answers on the socket.
var ErrUnreachable = errors.New("admin: cannot reach sipward")

// A Refusal is an answer in which sipward declined what was asked.
type Refusal struct{ Reason string }

func (e *Refusal) Error() string { return e.Reason }

// Client talks to a running sipward.
type Client struct {
	socket string
	http   http.Client
}

// NewClient returns a client for the sipward on a unix socket.
func NewClient(socket string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}
	return &Client{socket: socket, http: http.Client{
		Timeout:   30 * time.Second,
		Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true},
	}}
}

// Status asks how sipward is.
func (c *Client) Status(ctx context.Context) (Status, error) {
	var s Status
	return s, c.do(ctx, http.MethodGet, "/v1/status", nil, &s)
}

// Reload has sipward read its configuration again.
func (c *Client) Reload(ctx context.Context) (Reloaded, error) {
	var r Reloaded
	return r, c.do(ctx, http.MethodPost, "/v1/reload", nil, &r)
}

// maxReply bounds what a client reads.
const maxReply = 64 << 20

func (c *Client) do(ctx context.Context, method, path string, body, into any) error {
	var send io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return err
		}
		send = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://sipward"+path, send)
	if err != nil {
		return err
	}
	res, err := c.http.Do(req)
	if err != nil {
		var op *net.OpError
		if errors.As(err, &op) {
			err = op // without the made-up URL
		}
		return fmt.Errorf("%w on %s: %w; is it running, and may you open its socket?", ErrUnreachable, c.socket, err)
	}
	defer res.Body.Close()
	dec := json.NewDecoder(io.LimitReader(res.Body, maxReply))
	if res.StatusCode != http.StatusOK {
		var f failure
		if err := dec.Decode(&f); err != nil || f.Error == "" {
			return &Refusal{fmt.Sprintf("sipward answered %s to %s %s", res.Status, method, path)}
		}
		return &Refusal{f.Error}
	}
	if err := dec.Decode(into); err != nil {
		return fmt.Errorf("read sipward's answer: %w", err)
	}
	return nil
}
