//go:build linux

package e2e_test

import (
	"context"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"sipward/e2e/lab"
	"sipward/e2e/phone"
)

// kernelState is everything of the packet filter and of routing.
func kernelState(t *testing.T, ns *lab.Namespace) string {
	t.Helper()
	var b strings.Builder
	for _, argv := range [][]string{
		{"nft", "list", "ruleset"}, {"ip", "-4", "rule"}, {"ip", "-6", "rule"},
		{"ip", "-4", "route", "show", "table", "all"}, {"ip", "-6", "route", "show", "table", "all"},
	} {
		fmt.Fprintf(&b, "%q\n%s\n", argv, must[string](t)(ns.Output(argv...)))
	}
	return b.String()
}

// host is where sipward runs.
func (s *site) host(placement string) *lab.Namespace {
	if placement == "host" {
		return s.PBX
	}
	return s.Edge
}

const ourTable = "inet sipward-transparent"

func (s *site) hasTable(t *testing.T, placement string) bool {
	t.Helper()
	return strings.Contains(must[string](t)(s.host(placement).Output("nft", "list", "tables")), ourTable)
}

// TestTransparentLife: sipward is killed, started again, and stopped; with fail: open calls go on without it, with
// fail: closed nothing does. What it has done to the kernel it undoes.
func TestTransparentLife(t *testing.T) {
	placements(t, func(t *testing.T, placement string) {
		lab.Need(t, "asterisk")
		if direct {
			t.Skip("it is sipward that is tested here")
		}
		s := &site{Lab: labs.New(t), unseen: true}
		s.pbx = s.StartAsterisk(t)
		s.Direct(t)
		lab.Poll(t, patience, "no address is tentative any more", func() error {
			out, err := s.host(placement).Output("ip", "-6", "address", "show", "tentative")
			if err == nil && out != "" {
				err = &missing{out}
			}
			return err
		})
		before := kernelState(t, s.host(placement))
		for _, fail := range []string{"open", "closed"} {
			t.Run(fail, func(t *testing.T) {
				cfg := transparentConfig(placement, "")
				cfg.Fail = fail
				s.sipward = s.StartSipward(t, cfg)
				s.testKilled(t, placement, fail)
				s.sipward.Stop(5 * time.Second)
				if err := s.sipward.Err(); err != nil {
					t.Errorf("sipward ended: %v", err)
				}
				if after := kernelState(t, s.host(placement)); after != before {
					t.Errorf("before sipward\n%s\nafter it\n%s", before, after)
				}
			})
		}
		t.Run("up-down", func(t *testing.T) { s.testUpDown(t, placement, before) })
		t.Run("conflict", func(t *testing.T) { s.testConflict(t, placement, before) })
		t.Run("repair", func(t *testing.T) { s.testRepair(t, placement) })
	})
}

// testKilled: a call over UDP and a phone on TCP outlive kill -9.
func (s *site) testKilled(t *testing.T, placement, fail string) {
	onTCP := s.registered(t, tcp, "1003", 3)
	a, b := s.pair(t, udp)
	out, in := talk(t, a, b)
	passed := s.reasons(t, "pass")
	if passed == 0 {
		t.Fatal("sipward has seen nothing")
	}
	s.sipward.KillHard()
	killed := time.Now()
	if fail == "open" {
		for _, c := range []struct {
			call *phone.Call
			sdp  []byte
		}{{out, a.SDP()}, {in, b.SDP()}} {
			want(t, 200)(c.call.Request(within(t, patience), "INVITE", c.sdp))
		}
		t.Logf("the call went on %v after kill -9", time.Since(killed).Round(time.Millisecond))
		if s.hasTable(t, placement) {
			t.Error("the table is still there")
		}
	} else {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if r, err := out.Request(ctx, "INVITE", a.SDP()); err == nil {
			t.Errorf("answered %q although nobody protects the PBX", r.StartLine())
		}
		if !s.hasTable(t, placement) {
			t.Error("the table is gone")
		}
	}
	select {
	case <-onTCP.Lost():
	case <-time.After(patience):
		t.Fatal("the phone's connection outlived sipward")
	}
	err := onTCP.Reconnect()
	if fail == "closed" {
		if err == nil {
			t.Error("a phone has connected although nobody protects the PBX")
		}
	} else if err != nil {
		t.Errorf("without sipward: %v", err)
	} else {
		want(t, 200)(onTCP.Register(within(t, patience), 300))
	}
	s.sipward.Restart(t)
	want(t, 200)(in.Request(within(t, patience), "INVITE", b.SDP()))
	want(t, 200)(out.Bye(within(t, patience)))
	ended(t, in)
	lab.Poll(t, patience, "the phone on TCP registers again", func() error {
		select {
		case <-onTCP.Lost():
			if err := onTCP.Reconnect(); err != nil {
				return err
			}
		default:
		}
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		r, err := onTCP.Register(ctx, 300)
		if err == nil && r.Status() != 200 {
			err = fmt.Errorf("answered %q", r.StartLine())
		}
		return err
	})
	if s.reasons(t, "pass") == 0 {
		t.Error("the second sipward has seen nothing")
	}
}

// testUpDown: the commands for a boot at which nothing may pass before sipward, and for whoever wants it to pass again.
func (s *site) testUpDown(t *testing.T, placement, before string) {
	open := s.NewSipward(t, transparentConfig(placement, ""))
	if _, err := open.Tool("transparent", "up"); err == nil || !strings.Contains(err.Error(), "transparent.fail: open") {
		t.Errorf("up with fail: open says %v", err)
	}
	cfg := transparentConfig(placement, "")
	cfg.Fail = "closed"
	closed := s.NewSipward(t, cfg)
	must[string](t)(closed.Tool("transparent", "up"))
	if out := must[string](t)(closed.Tool("transparent", "status")); !strings.Contains(out, "until it is removed") || strings.Contains(out, "conflict") {
		t.Errorf("status says\n%s", out)
	}
	installed := must[string](t)(s.host(placement).Output("nft", "-n", "list", "table", "inet", "sipward-transparent"))
	p := s.phone(t, udp, "1001", 1)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if r, err := p.Register(ctx, 300); err == nil {
		t.Errorf("answered %q while nothing may pass", r.StartLine())
	}
	closed.Restart(t)
	want(t, 200)(p.Register(within(t, patience), 300))
	closed.Stop(5 * time.Second)
	// What print shows is the same.
	script := must[string](t)(closed.Tool("transparent", "print"))
	cmd := s.host(placement).Command("sh", "-e")
	cmd.Stdin = strings.NewReader(script)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("run the printed script: %v: %s\n%s", err, out, script)
	}
	printed := must[string](t)(s.host(placement).Output("nft", "-n", "list", "table", "inet", "sipward-transparent"))
	if printed != installed {
		t.Errorf("made by sipward\n%s\nmade by its script\n%s", installed, printed)
	}
	must[string](t)(closed.Tool("transparent", "down"))
	if after := kernelState(t, s.host(placement)); after != before {
		t.Errorf("before\n%s\nafter down\n%s", before, after)
	}
}

// testConflict: what belongs to others is left alone, and named.
func (s *site) testConflict(t *testing.T, placement, before string) {
	host := s.host(placement)
	sw := s.NewSipward(t, transparentConfig(placement, ""))
	for _, c := range []struct{ add, del, says string }{
		{"rule add fwmark 0x5150 lookup 77", "rule del fwmark 0x5150 lookup 77", "transparent.mark"},
		{"-6 rule add fwmark 0x99 lookup 5150", "-6 rule del fwmark 0x99 lookup 5150", "transparent.table"},
		{"route add blackhole 192.0.2.128/25 table 5150", "route del blackhole 192.0.2.128/25 table 5150", "transparent.table"},
	} {
		must[string](t)(host.Output(append([]string{"ip"}, strings.Fields(c.add)...)...))
		if _, err := sw.Tool("run"); err == nil || !strings.Contains(err.Error(), "in use by somebody else") || !strings.Contains(err.Error(), c.says) {
			t.Errorf("ip %s: sipward says %v", c.add, err)
		}
		if out := must[string](t)(sw.Tool("transparent", "status")); !strings.Contains(out, "conflict") {
			t.Errorf("ip %s: status says\n%s", c.add, out)
		}
		must[string](t)(host.Output(append([]string{"ip"}, strings.Fields(c.del)...)...))
	}
	sw.Restart(t)
	cfg := transparentConfig(placement, "")
	cfg.More = "  port: 16060\n"
	if _, err := s.NewSipward(t, cfg).Tool("run"); err == nil || !strings.Contains(err.Error(), "another sipward is running") {
		t.Errorf("a second sipward says %v", err)
	}
	if _, err := sw.Tool("transparent", "down"); err == nil || !strings.Contains(err.Error(), "running sipward") {
		t.Errorf("down while sipward runs says %v", err)
	}
	sw.Stop(5 * time.Second)
	if after := kernelState(t, host); after != before {
		t.Errorf("before\n%s\nafter\n%s", before, after)
	}
}

// testRepair: an administrator flushes what is not his.
func (s *site) testRepair(t *testing.T, placement string) {
	cfg := transparentConfig(placement, "")
	cfg.Fail = "closed"
	s.sipward = s.StartSipward(t, cfg)
	host := s.host(placement)
	for _, line := range []string{"nft delete table " + ourTable, "ip rule del fwmark 0x5150", "ip -6 route flush table 5150"} {
		must[string](t)(host.Output(strings.Fields(line)...))
	}
	lab.Poll(t, patience, "all is back", func() error {
		out, err := s.sipward.Tool("transparent", "status")
		if err == nil && (!strings.Contains(out, "until it is removed") || !strings.Contains(out, "routing         there")) {
			err = &missing{out}
		}
		return err
	})
	passed := s.reasons(t, "pass")
	s.registered(t, udp, "1004", 4)
	if s.reasons(t, "pass") == passed {
		t.Error("sipward sees nothing")
	}
	if err := s.sipward.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-s.sipward.Done()
}
