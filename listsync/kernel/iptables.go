//go:build linux

package kernel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// iptables is the rules of one family, in two chains of the table raw. The
// kernel has no netlink messages for them, so the programs are run, when rules
// change and not for entries.
type iptables struct {
	program     string // iptables or ip6tables
	allow, ban  string // sets
	good        string
	chain       string // called by PREROUTING
	guard       string // what is sent to a protected port, while strangers are limited
	strangers   string // name of the limit
	installed   string // the rules as the program lists them
	before      drops  // of rules that others have taken the place of
	ambientCaps []uintptr
}

// findIPTables returns what is needed for the families that the machine has.
func findIPTables(name string) ([]*iptables, error) {
	families, caps := []string{"4"}, inheritable()
	if _, err := os.Stat("/proc/net/if_inet6"); err == nil {
		families = append(families, "6")
	}
	var all []*iptables
	for _, f := range families {
		t := &iptables{
			program: "iptables",
			allow:   name + "-allow" + f, ban: name + "-ban" + f, good: name + "-good" + f,
			chain: strings.ToUpper(name), guard: strings.ToUpper(name) + "-GUARD",
			strangers: name + f,
		}
		if f == "6" {
			t.program = "ip6tables"
		}
		t.ambientCaps = caps
		for _, suffix := range []string{"-save", "-restore"} {
			if _, err := exec.LookPath(t.program + suffix); err != nil {
				return nil, fmt.Errorf("%w: ipset: the program %s, which makes the rules, is missing", ErrUnsupported, t.program+suffix)
			}
		}
		all = append(all, t)
	}
	return all, nil
}

// inheritable returns which of the capabilities that iptables needs we have and
// it would lose. Rules with sets take CAP_NET_RAW, too.
func inheritable() []uintptr {
	if os.Geteuid() == 0 {
		return nil
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if unix.Capget(&header, &data[0]) != nil {
		return nil
	}
	var caps []uintptr
	for _, c := range []uintptr{unix.CAP_NET_ADMIN, unix.CAP_NET_RAW} {
		if data[0].Permitted&(1<<c) != 0 {
			caps = append(caps, c)
		}
	}
	return caps
}

// run runs a program of the family.
func (t *iptables) run(input string, suffix string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, t.program+suffix, args...)
	cmd.Stdin = strings.NewReader(input)
	cmd.SysProcAttr = &syscall.SysProcAttr{AmbientCaps: t.ambientCaps}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	said := strings.TrimSpace(stderr.String())
	switch {
	case err == nil:
		return stdout.String(), nil
	case strings.Contains(said, "Can't open socket to ipset"):
		return "", fmt.Errorf("%w: ipset: %s needs CAP_NET_RAW for rules with sets", ErrUnsupported, t.program)
	case errors.Is(err, unix.EPERM), strings.Contains(said, "Permission denied"), strings.Contains(said, "must be root"):
		return "", fmt.Errorf("%w: %s%s: %s", ErrPermission, t.program, suffix, said)
	}
	return "", fmt.Errorf("run %s%s: %w: %s", t.program, suffix, err, said)
}

// restore changes the table in one step.
func (t *iptables) restore(lines []string) error {
	text := "*raw\n" + strings.Join(lines, "\n") + "\nCOMMIT\n"
	_, err := t.run(text, "-restore", "-w", "10", "--noflush")
	return err
}

// listing returns our lines of the table, each with its counts, and how often
// PREROUTING calls us.
func (t *iptables) listing() (lines []string, calls int, err error) {
	out, err := t.run("", "-save", "-c", "-t", "raw")
	if err != nil {
		return nil, 0, err
	}
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(line)
		_, rule, _ := strings.Cut(line, "] ")
		switch {
		case rule == "-A PREROUTING -j "+t.chain:
			calls++
		case strings.HasPrefix(line, ":"+t.chain+" "), strings.HasPrefix(line, ":"+t.guard+" "),
			strings.HasPrefix(rule, "-A "+t.chain+" "), strings.HasPrefix(rule, "-A "+t.guard+" "):
			lines = append(lines, line)
		}
	}
	return lines, calls, nil
}

// signature is a listing without its counts.
func signature(lines []string) string {
	var b strings.Builder
	for _, line := range lines {
		if _, rule, ok := strings.Cut(line, "] "); ok {
			line = rule
		}
		b.WriteString(line)
		b.WriteByte('\n')
	}
	return b.String()
}

// install puts the rules in force, in the place of those that are there.
func (t *iptables) install(r rules) error {
	old, calls, err := t.listing()
	if err != nil {
		return err
	}
	if t.installed != "" {
		t.before = t.before.plus(counts(old))
	}
	lines := append([]string{":" + t.chain + " - [0:0]", ":" + t.guard + " - [0:0]"}, t.rules(r)...)
	if calls == 0 {
		lines = append(lines, "-I PREROUTING 1 -j "+t.chain)
	}
	for ; calls > 1; calls-- {
		lines = append(lines, "-D PREROUTING -j "+t.chain)
	}
	if err := t.restore(lines); err != nil {
		return err
	}
	now, _, err := t.listing()
	if err != nil {
		return err
	}
	t.installed = signature(now)
	return nil
}

// rules returns the rules of both chains. RETURN goes on with the rules that
// others have in PREROUTING; ACCEPT would skip them. Who is allowed is looked up
// only when he is banned, which saves all others a look-up, and a banned source
// meets its rule without a second chain, which would cost a twentieth of the rate.
func (t *iptables) rules(r rules) []string {
	toPorts := func(then string) (all []string) {
		for _, p := range r.ports {
			all = append(all, fmt.Sprintf("-A %s -p %v --dport %d %s", t.chain, p.protocol(), p.Port, then))
		}
		return all
	}
	bans := "-m set --match-set " + t.ban + " src -m set ! --match-set " + t.allow + " src -j DROP"
	all := []string{"-A " + t.chain + " " + bans}
	if r.scope == ScopePorts {
		all = toPorts(bans)
	}
	rate := min(r.strangers, 1_000_000)
	if rate == 0 {
		return all
	}
	return append(append(all, toPorts("-g "+t.guard)...),
		"-A "+t.guard+" -m set --match-set "+t.allow+" src -j RETURN",
		"-A "+t.guard+" -m set --match-set "+t.good+" src -j RETURN",
		// A limit of the same name would keep the rate that it was made with.
		fmt.Sprintf("-A %s -m hashlimit --hashlimit-name %s-%d --hashlimit-above %d/second --hashlimit-burst %d -j DROP",
			t.guard, t.strangers, rate, rate, r.burst()))
}

func (t *iptables) intact() (bool, error) {
	lines, calls, err := t.listing()
	return err == nil && calls == 1 && signature(lines) == t.installed, err
}

func (t *iptables) dropped() (drops, error) {
	lines, _, err := t.listing()
	return t.before.plus(counts(lines)), err
}

// counts adds up what the rules of a listing have dropped.
func counts(lines []string) (d drops) {
	for _, line := range lines {
		counts, rule, _ := strings.Cut(strings.TrimPrefix(line, "["), "] ")
		packets, _, _ := strings.Cut(counts, ":")
		n, err := strconv.ParseUint(packets, 10, 64)
		switch {
		case err != nil || !strings.HasSuffix(rule, "-j DROP"):
		case strings.Contains(rule, "--match-set"):
			d.bans += n
		default:
			d.strangers += n
		}
	}
	return d
}

func (t *iptables) remove() error {
	lines, calls, err := t.listing()
	if err != nil || len(lines) == 0 && calls == 0 {
		return err
	}
	var undo []string
	for range calls {
		undo = append(undo, "-D PREROUTING -j "+t.chain)
	}
	// Both are declared, which empties them, so that neither refers to the
	// other, and it does not matter whether one is missing.
	undo = append([]string{":" + t.chain + " - [0:0]", ":" + t.guard + " - [0:0]"}, undo...)
	return t.restore(append(undo, "-X "+t.guard, "-X "+t.chain))
}
