package notify

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// hook posts JSON, signed as Standard Webhooks has it: HMAC-SHA256 over id, time and
// body.
type hook struct {
	c      *Channel
	client *http.Client
	sign   *standardwebhooks.Webhook // nil: it is not signed
}

var _ sender = (*hook)(nil)

func newHook(c *Channel, conf *tls.Config, proxy func(*http.Request) (*url.URL, error)) (*hook, error) {
	h := &hook{c: c, client: &http.Client{
		Transport: &http.Transport{TLSClientConfig: conf, Proxy: proxy, DisableKeepAlives: true, ForceAttemptHTTP2: true},
		// A redirect could lead anywhere, with the signature.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	var err error
	switch {
	case strings.HasPrefix(c.Secret, "whsec_"):
		if h.sign, err = standardwebhooks.NewWebhook(c.Secret); err != nil {
			return nil, errors.New(`the secret begins with "whsec_", but what follows is not base64`)
		}
	case c.Secret != "":
		h.sign, err = standardwebhooks.NewWebhookRaw([]byte(c.Secret))
	}
	return h, err
}

func (h *hook) send(ctx context.Context, d *delivery) error {
	body, err := json.Marshal(d)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.c.URL, bytes.NewReader(body))
	if err != nil {
		return err
	}
	id, now := d.Events[0].ID, time.Now()
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "sipward")
	req.Header.Set(standardwebhooks.HeaderWebhookID, id)
	req.Header.Set(standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(now.Unix(), 10))
	if h.sign != nil {
		signature, err := h.sign.Sign(id, now, body)
		if err != nil {
			return err
		}
		req.Header.Set(standardwebhooks.HeaderWebhookSignature, signature)
	}
	res, err := h.client.Do(req)
	if err != nil {
		var where *url.Error
		if errors.As(err, &where) {
			err = where.Err // without the URL
		}
		return err
	}
	defer res.Body.Close()
	_, _ = io.CopyN(io.Discard, res.Body, 64<<10) // the end of an answer that does not matter
	return answered(res)
}

// answered judges the status of an answer.
func answered(res *http.Response) error {
	err := fmt.Errorf("the server answered %s", res.Status)
	switch code := res.StatusCode; {
	case code >= 200 && code < 300:
		return nil
	case code == http.StatusBadRequest, code == http.StatusGone, code == http.StatusRequestEntityTooLarge,
		code == http.StatusUnsupportedMediaType, code == http.StatusUnprocessableEntity:
		return fmt.Errorf("%w: %w", errRefused, err) // about this body; a wrong key or path can be mended
	}
	if seconds, e := strconv.Atoi(res.Header.Get("Retry-After")); e == nil && seconds > 0 {
		return &again{err, time.Duration(min(seconds, 1<<20)) * time.Second}
	}
	return err
}
