package admin

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// Events is what Follow tells of; what is nil is not told. They are called by one
// goroutine.
type Events struct {
	Message func(Event)
	Ban     func(BanChange)
	Lost    func(Lost)
	Resync  func()
}

// EventQuery is what Follow is to tell of.
type EventQuery struct {
	Verdicts []string // messages with one of these verdicts; none: all
	Address  string   // messages and bans of this address or prefix, and what goes there; "": everybody's
}

// Follow tells of bans and messages until ctx ends, which is no error, or sipward does.
func (c *Client) Follow(ctx context.Context, to Events, q EventQuery) error {
	params := url.Values{}
	if len(q.Verdicts) > 0 {
		params.Set("verdict", strings.Join(q.Verdicts, ","))
	}
	if q.Address != "" {
		params.Set("address", q.Address)
	}
	path := "/v1/events?" + params.Encode()
	long := http.Client{Transport: c.http.Transport} // without a time limit
	res, err := c.send(ctx, &long, http.MethodGet, path, nil)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	defer res.Body.Close()
	lines, name := bufio.NewScanner(res.Body), ""
	for lines.Scan() {
		if n, ok := strings.CutPrefix(lines.Text(), "event: "); ok {
			name = n
		}
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		if err := to.tell(name, []byte(data)); err != nil {
			return fmt.Errorf("read an event: %w", err)
		}
	}
	switch {
	case ctx.Err() != nil:
		return nil
	case lines.Err() != nil:
		return fmt.Errorf("%w: %w", ErrUnreachable, lines.Err())
	}
	return fmt.Errorf("%w: it has ended", ErrUnreachable)
}

func (to *Events) tell(name string, data []byte) error {
	switch name {
	case "message":
		return tell(to.Message, data)
	case "ban":
		return tell(to.Ban, data)
	case "lost":
		return tell(to.Lost, data)
	case "resync":
		if to.Resync != nil {
			to.Resync()
		}
	}
	return nil // of a later version
}

func tell[T any](f func(T), data []byte) error {
	if f == nil {
		return nil
	}
	var v T
	if err := json.Unmarshal(data, &v); err != nil {
		return err
	}
	f(v)
	return nil
}
