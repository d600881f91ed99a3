package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"sipward/admin"
)

func newTop() *cobra.Command {
	var socket string
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Watch what a running sipward lets through and stops, and whom",
		Long: `Watch what a running sipward lets through and stops: messages per second by verdict
and reason, the sources with the most messages stopped, and the latest bans.

q or Ctrl-C ends it. When the output is no terminal, it looks for a second, prints
what it has seen, and ends.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			w := &watcher{client: admin.NewClient(socket), view: newTopView()}
			if err := w.begin(cmd.Context()); err != nil {
				return err
			}
			out, ok := cmd.OutOrStdout().(*os.File)
			if !ok || !term.IsTerminal(int(out.Fd())) {
				return w.once(cmd.Context(), cmd.OutOrStdout())
			}
			return w.live(cmd.Context(), os.Stdin, out)
		},
	}
	controlFlags(cmd, &socket, nil)
	return cmd
}

// topEvery is how often the view is drawn anew.
const topEvery = time.Second

// watcher asks a running sipward, and listens to it.
type watcher struct {
	client *admin.Client

	mu   sync.Mutex
	view *topView
}

// begin shows whether sipward can be reached at all, and fills the view.
func (w *watcher) begin(ctx context.Context) error {
	if err := w.recallBans(ctx); err != nil {
		return err
	}
	return w.look(ctx)
}

// look asks for the counters.
func (w *watcher) look(ctx context.Context) error {
	s, err := w.client.Status(ctx)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.view.status(&s, err, time.Now())
	return err
}

// follow listens until ctx ends. When sipward ends, it tries again.
func (w *watcher) follow(ctx context.Context) error {
	locked := func(f func(now time.Time)) {
		w.mu.Lock()
		defer w.mu.Unlock()
		f(time.Now())
	}
	to := admin.Events{
		Message: func(m admin.Event) { locked(func(now time.Time) { w.view.message(&m, now) }) },
		Ban:     func(c admin.BanChange) { locked(func(time.Time) { w.view.ban(c) }) },
		Resync:  func() { _ = w.recallBans(ctx) }, // what goes wrong is seen at the next look
		Lost:    func(l admin.Lost) { locked(func(now time.Time) { w.view.lose(l.Messages, now) }) },
	}
	for ctx.Err() == nil {
		if err := w.client.Follow(ctx, to, admin.EventQuery{Verdicts: []string{"drop", "reject", "hold"}}); err != nil {
			select {
			case <-ctx.Done():
			case <-time.After(topEvery):
			}
		}
	}
	return nil
}

// recallBans asks for the latest bans: at the begin, and when changes were lost.
func (w *watcher) recallBans(ctx context.Context) error {
	p, err := w.client.BanPage(ctx, admin.BanQuery{Limit: topBans, Latest: true})
	if err != nil {
		return err
	}
	slices.Reverse(p.Bans)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.view.bans = p.Bans
	return nil
}

// once looks for a moment and prints what it has seen.
func (w *watcher) once(ctx context.Context, out io.Writer) error {
	moment, cancel := context.WithTimeout(ctx, topEvery)
	defer cancel()
	if err := w.follow(moment); err != nil {
		return err
	}
	if err := w.look(ctx); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	_, err := io.WriteString(out, w.view.render(0, 0, time.Now(), false))
	return err
}

// errQuit: somebody has pressed a key.
var errQuit = errors.New("quit")

// The alternative screen keeps what was there before; the cursor is not shown meanwhile.
const (
	enterScreen = "\x1b[?1049h\x1b[?25l"
	leaveScreen = "\x1b[?25h\x1b[?1049l"
	homeCursor  = "\x1b[H"
	clearLine   = "\x1b[K"
	clearBelow  = "\x1b[J"
)

// live draws until somebody quits, and leaves the terminal as it was.
func (w *watcher) live(ctx context.Context, in, out *os.File) error {
	if term.IsTerminal(int(in.Fd())) {
		before, err := term.MakeRaw(int(in.Fd()))
		if err != nil {
			return fmt.Errorf("read keys: %w", err)
		}
		defer term.Restore(int(in.Fd()), before) //nolint:errcheck // nothing is left to be done about it
	}
	io.WriteString(out, enterScreen)
	defer io.WriteString(out, leaveScreen)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return w.follow(ctx) })
	group.Go(func() error { return w.draw(ctx, out) })
	if term.IsTerminal(int(in.Fd())) {
		group.Go(func() error { return awaitQuit(ctx, int(in.Fd())) })
	}
	if err := group.Wait(); !errors.Is(err, errQuit) {
		return err
	}
	return nil
}

func (w *watcher) draw(ctx context.Context, out *os.File) error {
	tick := time.NewTicker(topEvery)
	defer tick.Stop()
	colour := colours(out)
	for {
		width, height, err := term.GetSize(int(out.Fd()))
		if err != nil {
			return fmt.Errorf("measure the terminal: %w", err)
		}
		w.mu.Lock()
		text := w.view.render(width, height, time.Now(), colour)
		w.mu.Unlock()
		if _, err := io.WriteString(out, homeCursor+text+clearBelow); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		w.look(ctx) // what goes wrong is shown
	}
}

// awaitQuit waits for q, Ctrl-C or Ctrl-D.
func awaitQuit(ctx context.Context, fd int) error {
	const ctrlC, ctrlD, wait = 3, 4, 200 // ms
	key := make([]byte, 64)
	for ctx.Err() == nil {
		ready, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, wait)
		if err != nil || ready == 0 {
			continue
		}
		n, err := unix.Read(fd, key)
		if n <= 0 && !errors.Is(err, unix.EINTR) {
			return errQuit // the terminal is gone
		}
		for _, k := range key[:max(n, 0)] {
			if k == 'q' || k == 'Q' || k == ctrlC || k == ctrlD {
				return errQuit
			}
		}
	}
	return nil
}
