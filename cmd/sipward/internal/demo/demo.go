// Package demo shows sipward at work on one machine with nothing else installed: an
// embedded PBX, sipward in front of it, a scripted round of good and bad callers, and a
// live view of what passes and what is dropped. Everything stays on the loopback
// interface.
package demo

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"sipward/cmd/sipward/internal/demo/pbx"
	"sipward/cmd/sipward/internal/demo/view"
	"sipward/policy/event"
)

// Options of a demonstration.
type Options struct {
	Out    io.Writer
	Script bool // play the round; otherwise only wait for softphones
	// Start builds sipward in front of the PBX and binds its sockets.
	Start func(Setup) (Edge, error)
}

// Setup is what the demonstration needs of sipward's configuration.
type Setup struct {
	Listen netip.AddrPort // UDP and TCP towards the phones; free a moment ago
	PBX    netip.AddrPort
	Deny   []netip.Prefix
	// Dashboard is where a browser finds it (TCP); free a moment ago.
	Dashboard netip.AddrPort
}

// YAML is the configuration file that says so.
func (s Setup) YAML() string {
	var b strings.Builder
	fmt.Fprintf(&b, "listen:\n  outside: [\"udp://%s\", \"tcp://%s\"]\npbx:\n  - address: \"%s\"\nlists:\n  deny: [", s.Listen, s.Listen, s.PBX)
	for i, p := range s.Deny {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%q", p)
	}
	b.WriteString("]\n")
	return b.String()
}

// Edge is sipward, built but not running.
type Edge struct {
	Events *event.Bus
	Run    func(context.Context) error
	// Program and Socket are how the commands are called that talk to it; empty: there is
	// nothing to talk to.
	Program, Socket string
	// Page is a link to the dashboard that logs in once, and Token what to log in with
	// later; empty: there is no dashboard.
	Page, Token string
}

// The addresses of those who take part. The PBX has one of its own, since what comes from a PBX's
// address is the PBX to sipward, and a softphone on this machine speaks from 127.0.0.1.
var (
	addrEdge    = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	addrGood    = netip.AddrFrom4([4]byte{127, 0, 0, 2})
	addrGuesser = netip.AddrFrom4([4]byte{127, 0, 0, 3})
	addrScanner = netip.AddrFrom4([4]byte{127, 0, 0, 4})
	addrDenied  = netip.AddrFrom4([4]byte{127, 0, 0, 5})
	addrBroken  = netip.AddrFrom4([4]byte{127, 0, 0, 6})
	addrPBX     = netip.AddrFrom4([4]byte{127, 0, 0, 10})
)

const echoNumber = "600"

// stage is one running demonstration.
type stage struct {
	opt      Options
	accounts []pbx.Account
	edge     netip.AddrPort
	view     *view.View
}

// Run plays until ctx ends. It returns an error when something could not start or broke down.
func Run(ctx context.Context, opt Options) error {
	s := &stage{opt: opt}
	for _, user := range []string{"1001", "1002", "1003"} {
		s.accounts = append(s.accounts, pbx.Account{User: user, Password: strings.ToLower(rand.Text()[:8])})
	}
	p, err := pbx.Listen(pbx.Config{Addr: netip.AddrPortFrom(addrPBX, 0), Accounts: s.accounts, Echo: echoNumber})
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	pbxCtx, stopPBX := context.WithCancel(context.WithoutCancel(ctx))
	defer stopPBX()
	group.Go(func() error { return p.Run(pbxCtx) })
	if err := s.play(ctx, p.Addr()); err != nil {
		stopPBX()
		return errors.Join(err, group.Wait())
	}
	stopPBX()
	return group.Wait()
}

// play starts sipward and the view, and ends them after the last act.
func (s *stage) play(ctx context.Context, pbxAddr netip.AddrPort) error {
	setup := Setup{PBX: pbxAddr, Deny: []netip.Prefix{netip.PrefixFrom(addrDenied, 32)}}
	edge, err := s.start(&setup)
	if err != nil {
		return err
	}
	s.edge = setup.Listen
	s.view = view.New(s.opt.Out, map[netip.Addr]string{
		addrEdge: "you", addrGood: "good phone", addrGuesser: "guesser", addrScanner: "scanner",
		addrDenied: "denied", addrBroken: "broken", addrPBX: "PBX",
	})
	sub := edge.Events.Subscribe(4096)
	defer sub.Close()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return edge.Run(ctx) })
	group.Go(func() error { return s.view.Run(ctx, sub) })
	group.Go(func() error { return s.acts(ctx, setup, edge) })
	return group.Wait()
}

// start starts sipward on the first free ports. When one was taken in the moment between
// looking and binding, it looks again.
func (s *stage) start(setup *Setup) (Edge, error) {
	for try := 0; ; try++ {
		var err error
		if setup.Listen, err = freePort(addrEdge, sipPort, trySIP); err != nil {
			return Edge{}, err
		}
		if setup.Dashboard, err = freePort(addrEdge, pagePort, tryPage); err != nil {
			return Edge{}, err
		}
		edge, err := s.opt.Start(*setup)
		if err == nil {
			return edge, nil
		}
		if try == 5 || trySIP(setup.Listen) == nil && tryPage(setup.Dashboard) == nil {
			return Edge{}, fmt.Errorf("start sipward: %w", err)
		}
	}
}

// acts is what the public sees.
func (s *stage) acts(ctx context.Context, setup Setup, edge Edge) error {
	s.welcome(setup, edge)
	if s.opt.Script {
		if err := s.round(ctx); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
	}
	s.invitation(edge)
	<-ctx.Done()
	return nil
}

// pause lets the view catch up, and the reader.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
