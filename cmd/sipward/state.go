package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"sipward/conf"
	"sipward/policy"
	"sipward/policy/ban"
)

// state is what outlives a restart: bans, the ladder, list entries by command and
// the places that accounts are known from, and the accounts in quarantine.
type state struct {
	lock        *os.File // of the folder; until it is closed
	store       *ban.Store
	bans        *ban.Table
	places      *ban.Places
	quarantines *ban.Quarantines
}

// storeName is the database in state_dir.
const storeName = "sipward.db"

// openState puts in force again what the last sipward left. standing says how many
// sources are in good standing; it is not called before the first ban.
func openState(c *conf.Config, standing func() int, log *slog.Logger) (*state, error) {
	if err := os.MkdirAll(c.StateDir, 0o750); err != nil {
		return nil, fmt.Errorf("make the state folder: %w", err)
	}
	s := &state{}
	var err error
	if s.lock, err = lockFolder(c.StateDir); err != nil {
		return nil, err
	}
	if s.store, err = ban.Open(ban.StoreConfig{Path: filepath.Join(c.StateDir, storeName), Log: log}); err != nil {
		s.lock.Close()
		return nil, err
	}
	now := time.Now().UnixNano()
	cfg := banConfig(c, standing, log)
	cfg.Store = s.store
	if s.bans, err = ban.New(cfg, now); err != nil {
		s.Close()
		return nil, err
	}
	if s.places, err = ban.NewPlaces(ban.PlacesConfig{Store: s.store}, now); err != nil {
		s.Close()
		return nil, err
	}
	if s.quarantines, err = ban.NewQuarantines(s.store, now); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// Close closes the store. What Run has not written yet is lost.
func (s *state) Close() {
	s.store.Close() //nolint:errcheck // nothing is left to be done about it
	s.lock.Close()
}

// lockFolder keeps other sipwards off a folder until the file is closed, or this process ends:
// what one of them has stored the other would not know of.
func lockFolder(dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("open the state folder: %w", err)
	}
	if err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err == nil {
		return f, nil
	}
	f.Close()
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, fmt.Errorf("state_dir %s is in use by another sipward; stop that one, or give this one a state_dir of its own", dir)
	}
	return nil, fmt.Errorf("lock the state folder %s: %w", dir, err)
}

func banConfig(c *conf.Config, standing func() int, log *slog.Logger) ban.Config {
	return ban.Config{
		IPv6Bits:         c.IPv6SourcePrefix,
		Threshold:        c.Register.BlockThreshold,
		BreakerPerMinute: c.Breaker.BansPerMinute,
		BreakerGoodShare: float64(c.Breaker.GoodShare) / 100,
		Standing:         standing,
		Log:              log,
	}
}

// awaitState puts quarantines and the entries made by command in force when they come
// late: another process had locked the database at the start.
func (e *edge) awaitState(ctx context.Context) error {
	select {
	case <-ctx.Done():
	case <-e.state.store.Ready():
		e.mu.Lock()
		defer e.mu.Unlock()
		if l := e.config.withCommands(e.state.store); l.allow.Len() != e.lists.allow.Len() || l.deny.Len() != e.lists.deny.Len() {
			e.apply(e.config)
		}
		e.engine.Resume(time.Now().UnixNano())
	}
	return nil
}

// banQueue is how many changes of bans may wait for cutOffBanned.
const banQueue = 4096

// cutOffBanned closes the open connections of each source that is banned.
func (e *edge) cutOffBanned(ctx context.Context) error {
	// Should more happen than the queue holds, those are closed whose ban began
	// since the last that was seen, with room for a clock that is set.
	seen := time.Now()
	missed := func(records []ban.Record) error {
		for _, r := range records {
			if r.Start > seen.Add(-time.Minute).UnixNano() {
				e.cutOff(r.Prefix)
			}
		}
		seen = time.Now()
		return nil
	}
	return e.state.bans.Follow(ctx, banQueue, missed, func(c ban.Change) error {
		if c.Kind == ban.Added {
			e.cutOff(c.Record.Prefix)
		}
		seen = time.Now()
		return nil
	})
}

// cutOff closes the open connections of a prefix that is shut out. Where it is let
// in all the same, in whole or in part, they stay: the gate hears no message of those
// that are not.
func (e *edge) cutOff(p netip.Prefix) {
	_, l := e.inForce()
	for _, k := range l.known() {
		if overlap(k.set, p) {
			return
		}
	}
	if n, files := e.server.CloseSource(p)+e.names.cutOff(p), e.files.cutOff(p); n+files > 0 {
		e.closed.Do(func() { e.log.Info("connections closed", "source", show(p), "connections", n, "file_transfers", files) })
	}
}

// tick tells the engine that time passes.
func (e *edge) tick(ctx context.Context) error {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-t.C:
			e.engine.Tick(now.UnixNano())
		}
	}
}

// noticeQueue is how many notices may wait to be logged.
const noticeQueue = 256

// notices passes what the policy has to tell the administrator from the packet
// path, which must not wait, to the log.
type notices struct {
	c    chan policy.Notice
	lost chan struct{}        // holds something when notices were lost since the last one
	told func(*policy.Notice) // who else hears of them; may be nil
}

func newNotices() *notices {
	return &notices{c: make(chan policy.Notice, noticeQueue), lost: make(chan struct{}, 1)}
}

// put never waits.
func (n *notices) put(x policy.Notice) {
	select {
	case n.c <- x:
	default:
		select {
		case n.lost <- struct{}{}:
		default:
		}
	}
}

// Run logs notices until ctx ends.
func (n *notices) Run(ctx context.Context, log *slog.Logger) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case x := <-n.c:
			logNotice(log, &x)
			if n.told != nil {
				n.told(&x)
			}
		case <-n.lost:
			log.Warn("more happened than can be told one by one; see sipward list bans and sipward status")
		}
	}
}

func logNotice(log *slog.Logger, n *policy.Notice) {
	level := slog.LevelWarn
	if n.Quiet {
		level = slog.LevelInfo
	}
	attrs := []slog.Attr{slog.String("kind", n.Kind.String())}
	if n.Reason != policy.ReasonNone {
		attrs = append(attrs, slog.String("reason", n.Reason.String()))
	}
	if n.Source.IsValid() {
		attrs = append(attrs, slog.String("source", n.Source.String()))
	}
	if n.Account != "" {
		attrs = append(attrs, slog.String("account", n.Account))
	}
	if len(n.Commands) > 0 {
		attrs = append(attrs, slog.Any("commands", n.Commands))
	}
	log.LogAttrs(context.Background(), level, n.Text, attrs...)
}
