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
	"net/url"
	"time"

	"sipward/listsync/kernel"
	"sipward/notify"
	"sipward/report"
)

// ErrUnreachable is wrapped when no sipward answers on the socket.
var ErrUnreachable = errors.New("admin: cannot reach sipward")

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

// Entries asks for a list.
func (c *Client) Entries(ctx context.Context, list List) ([]Entry, error) {
	var l entryList
	err := c.do(ctx, http.MethodGet, "/v1/lists/"+string(list), nil, &l)
	return l.Entries, err
}

// BanPage asks for some of the bans in force.
func (c *Client) BanPage(ctx context.Context, q BanQuery) (BanPage, error) {
	var p BanPage
	return p, c.do(ctx, http.MethodGet, "/v1/lists/bans?"+q.values().Encode(), nil, &p)
}

// Bans asks for all bans in force that a question is about, page by page. One that is renewed
// meanwhile may be there twice.
func (c *Client) Bans(ctx context.Context, q BanQuery) ([]Ban, error) {
	all := []Ban{}
	q.Limit = MaxBans
	for {
		p, err := c.BanPage(ctx, q)
		if err != nil {
			return nil, err
		}
		all = append(all, p.Bans...)
		if p.Next == "" {
			return all, nil
		}
		if q.After, err = parseBanCursor(p.Next); err != nil {
			return nil, fmt.Errorf("read sipward's answer: %w", err)
		}
	}
}

// Quarantines asks for the accounts that are shut out from a source in good standing.
func (c *Client) Quarantines(ctx context.Context) ([]Quarantine, error) {
	var l quarantineList
	err := c.do(ctx, http.MethodGet, "/v1/lists/quarantines", nil, &l)
	return l.Quarantines, err
}

// Ban bans an address or prefix.
func (c *Client) Ban(ctx context.Context, q BanRequest) (Banned, error) {
	var done Banned
	return done, c.do(ctx, http.MethodPost, "/v1/ban", q, &done)
}

// Unban lifts the ban of an address or prefix.
func (c *Client) Unban(ctx context.Context, address string) (Unbanned, error) {
	var done Unbanned
	return done, c.do(ctx, http.MethodDelete, "/v1/ban?"+about(address), nil, &done)
}

// AddEntry puts an address or prefix on a list.
func (c *Client) AddEntry(ctx context.Context, list List, q EntryRequest) (EntryChange, error) {
	var done EntryChange
	return done, c.do(ctx, http.MethodPost, "/v1/"+string(list), q, &done)
}

// RemoveEntry takes an address or prefix off a list.
func (c *Client) RemoveEntry(ctx context.Context, list List, address string) (EntryChange, error) {
	var done EntryChange
	return done, c.do(ctx, http.MethodDelete, "/v1/"+string(list)+"?"+about(address), nil, &done)
}

// Kernel asks how the mirror of the bans is.
func (c *Client) Kernel(ctx context.Context) (kernel.Status, error) {
	var s kernel.Status
	return s, c.do(ctx, http.MethodGet, "/v1/kernel", nil, &s)
}

// SyncKernel has everything in the kernel made anew.
func (c *Client) SyncKernel(ctx context.Context) (kernel.Status, error) {
	var s kernel.Status
	return s, c.do(ctx, http.MethodPost, "/v1/kernel/sync", nil, &s)
}

// ClearKernel has everything of sipward removed from the kernel.
func (c *Client) ClearKernel(ctx context.Context) (kernel.Status, error) {
	var s kernel.Status
	return s, c.do(ctx, http.MethodPost, "/v1/kernel/clear", nil, &s)
}

// Report asks what happened.
func (c *Client) Report(ctx context.Context, q *report.Query) (*report.Report, error) {
	r := new(report.Report)
	return r, c.do(ctx, http.MethodGet, "/v1/report?"+q.Values().Encode(), nil, r)
}

// MailReport has a report of what happened mailed by a channel.
func (c *Client) MailReport(ctx context.Context, q *report.Query, channel string) (Mailed, error) {
	values := q.Values()
	values.Set("channel", channel)
	var done Mailed
	return done, c.do(ctx, http.MethodPost, "/v1/report?"+values.Encode(), nil, &done)
}

// Notifications asks how administrators are told.
func (c *Client) Notifications(ctx context.Context) (notify.Status, error) {
	var s notify.Status
	return s, c.do(ctx, http.MethodGet, "/v1/notify", nil, &s)
}

// TestNotification has a test sent by a channel.
func (c *Client) TestNotification(ctx context.Context, channel string) (notify.Tested, error) {
	var done notify.Tested
	return done, c.do(ctx, http.MethodPost, "/v1/notify/test", TestRequest{Channel: channel}, &done)
}

// Explain asks what is known about an address.
func (c *Client) Explain(ctx context.Context, address string) (Explanation, error) {
	var x Explanation
	return x, c.do(ctx, http.MethodGet, "/v1/explain?"+about(address), nil, &x)
}

func about(address string) string { return url.Values{"address": {address}}.Encode() }

// maxReply bounds what a client reads: a full ban table is about 50 MB.
const maxReply = 256 << 20

func (c *Client) do(ctx context.Context, method, path string, body, into any) error {
	res, err := c.send(ctx, &c.http, method, path, body)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if err := json.NewDecoder(io.LimitReader(res.Body, maxReply)).Decode(into); err != nil {
		return fmt.Errorf("read sipward's answer: %w", err)
	}
	return nil
}

// send makes a request. The answer is a success, and the caller closes its body.
func (c *Client) send(ctx context.Context, by *http.Client, method, path string, body any) (*http.Response, error) {
	var send io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		send = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://sipward"+path, send)
	if err != nil {
		return nil, err
	}
	res, err := by.Do(req)
	if err != nil {
		var op *net.OpError
		if errors.As(err, &op) {
			err = op // without the made-up URL
		}
		return nil, fmt.Errorf("%w on %s: %w; is it running, and may you open its socket?", ErrUnreachable, c.socket, err)
	}
	if res.StatusCode == http.StatusOK {
		return res, nil
	}
	defer res.Body.Close()
	var f failure
	if err := json.NewDecoder(io.LimitReader(res.Body, maxReply)).Decode(&f); err != nil || f.Error == "" {
		f.Error = fmt.Sprintf("sipward answered %s to %s %s", res.Status, method, path)
	}
	return nil, &Refusal{Status: res.StatusCode, Reason: f.Error}
}
