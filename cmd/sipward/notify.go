package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"sipward/admin"
	"sipward/conf"
	"sipward/notify"
	"sipward/policy"
	"sipward/policy/ban"
	"sipward/policy/event"
)

// loadChannels reads the secrets of the channels.
func loadChannels(c *conf.Config) ([]notify.Channel, error) {
	var all []notify.Channel
	var errs []error
	for i := range c.Notify.Channels {
		ch, err := loadChannel(&c.Notify.Channels[i])
		if err != nil {
			errs = append(errs, fmt.Errorf("notify.channels: %s: %w", ch.Name, err))
		}
		all = append(all, ch)
	}
	return all, errors.Join(append(errs, checkReasons(c.Notify.Rules))...)
}

func loadChannel(c *conf.NotifyChannel) (notify.Channel, error) {
	ch := notify.Channel{
		Name: c.Name, Type: c.Type, Timeout: c.Timeout, PerHour: c.PerHour, Server: c.Server,
		TLS:      map[string]notify.TLS{conf.NotifyTLS: notify.TLSImplicit, conf.NotifyNoTLS: notify.TLSNone}[c.TLS],
		Username: c.Username, From: c.From, To: c.To, URL: c.URL, Run: c.Run, Facility: uint8(c.Facility),
	}
	var err1, err2, err3 error
	ch.Password, err1 = secret(c.PasswordFile, c.PasswordEnv)
	ch.Secret, err2 = secret(c.SecretFile, c.SecretEnv)
	if c.CAFile != "" {
		var pem []byte
		pem, err3 = os.ReadFile(c.CAFile)
		ch.CA = string(pem)
	}
	return ch, errors.Join(err1, err2, err3, ch.Check())
}

// secret reads the first line of a file, or a variable. Neither: "".
func secret(file, variable string) (string, error) {
	switch {
	case variable != "":
		if text := os.Getenv(variable); text != "" {
			return text, nil
		}
		return "", fmt.Errorf("the environment variable %s is not set; set it, or use a file", variable)
	case file == "":
		return "", nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	line, _, _ := strings.Cut(string(text), "\n")
	if line = strings.TrimRight(line, "\r"); line == "" {
		return "", fmt.Errorf("%s: its first line is empty; write the secret there", file)
	}
	return line, nil
}

// secretFiles returns the files that loadChannels reads.
func secretFiles(c *conf.Config) []string {
	var all []string
	for _, ch := range c.Notify.Channels {
		for _, f := range []string{ch.PasswordFile, ch.SecretFile, ch.CAFile} {
			if f != "" {
				all = append(all, f)
			}
		}
	}
	return all
}

// checkReasons finds words in rules that would never fit.
func checkReasons(rules []conf.NotifyRule) error {
	known := append(policy.ReasonWords(), "unban")
	for k := policy.NoticeKind(0); k.String() != "unknown"; k++ {
		known = append(known, k.String())
	}
	for i, r := range rules {
		for _, word := range r.Reasons {
			if !slices.Contains(known, word) {
				return fmt.Errorf("notify.rules[%d].reasons: there is no reason %q; docs/notifications.md lists them", i, word)
			}
		}
	}
	return nil
}

func notifySettings(c *configuration) notify.Settings {
	n := c.conf.Notify
	s := notify.Settings{
		Channels: c.channels, Quiet: n.Group.Quiet, Repeat: n.Group.Repeat, Sources: n.Group.Sources,
		SpoolSize: n.Spool.Size, Keep: n.Spool.Keep,
	}
	for _, r := range n.Rules {
		s.Rules = append(s.Rules, notify.Rule{
			Reasons: r.Reasons, Channels: r.Channels,
			Severity: map[string]notify.Severity{"warning": notify.Warning, "critical": notify.Critical}[r.Severity],
		})
	}
	return s
}

func (e *edge) newNotifier() (*notify.Notifier, error) {
	c := e.config
	return notify.New(notify.Config{
		Dir: filepath.Join(c.conf.StateDir, "notifications"), Node: nodeOf(c.conf), IPv6Bits: c.conf.IPv6SourcePrefix,
		Proxy: http.ProxyFromEnvironment, Log: e.log, Settings: notifySettings(c),
	})
}

// hear passes on what the policy tells, to the log and to administrators. It never
// waits.
func (e *edge) hear(x policy.Notice) {
	e.notices.put(x)
	e.notifier.Notice(x)
}

// tellOfBans passes on changes of bans. Should more happen than the queue holds, those
// are told whose ban began since the last that was seen; what was in force at the start
// is not told again.
func (e *edge) tellOfBans(ctx context.Context) error {
	seen := e.started
	missed := func(records []ban.Record) error {
		for _, r := range records {
			if r.Start > seen.UnixNano() {
				e.notifier.Change(ban.Change{Kind: ban.Added, Record: r})
			}
		}
		seen = time.Now()
		return nil
	}
	return e.state.bans.Follow(ctx, banQueue, missed, func(c ban.Change) error {
		e.notifier.Change(c)
		seen = time.Now()
		return nil
	})
}

// countStopped counts the messages that were not let through, for the attacks that they
// belong to. Without a channel nobody wants to know, and nothing is asked of the packet
// path.
func (e *edge) countStopped(ctx context.Context, events *event.Bus) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var sub *event.Subscription
	var c <-chan event.Event
	defer func() {
		if sub != nil {
			sub.Close()
		}
	}()
	for {
		switch wanted := e.notifier.Wanted(); {
		case wanted && sub == nil:
			sub = events.Subscribe(stoppedQueue)
			c = sub.C()
		case !wanted && sub != nil:
			sub.Close()
			sub, c = nil, nil
		}
		for again := true; again; {
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
				again = false
			case ev := <-c:
				if ev.Direction == event.FromOutside && (ev.Verdict == policy.Drop || ev.Verdict == policy.Reject) {
					e.notifier.Count(ev.Source.Addr(), 1)
				}
			}
		}
	}
}

// stoppedQueue is how many events may wait to be counted. What does not fit is not
// counted.
const stoppedQueue = 8192

// Notifications implements admin.Backend.
func (e *edge) Notifications() notify.Status { return e.notifier.Status() }

// TestNotification implements admin.Backend.
func (e *edge) TestNotification(ctx context.Context, channel string) (notify.Tested, error) {
	done, err := e.notifier.Test(ctx, channel)
	if errors.Is(err, notify.ErrNoChannel) {
		var names []string
		for _, c := range e.notifier.Status().Channels {
			names = append(names, c.Name)
		}
		return done, notFound("there is no channel %q; %s", channel, thereIs(names, "write them under notify.channels"))
	}
	if err != nil {
		return done, &admin.Refusal{Status: http.StatusBadGateway, Reason: err.Error()}
	}
	return done, nil
}

// thereIs says what there is instead of what was asked for, or how to make one.
func thereIs(names []string, how string) string {
	if len(names) == 0 {
		return "there are none at all, " + how
	}
	return "there is " + strings.Join(slices.Sorted(slices.Values(names)), ", ")
}
