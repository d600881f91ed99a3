//go:build linux

package e2e_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sipward/e2e/lab"
	"sipward/listsync/kernel"
)

// stream sends from an address, a message every few milliseconds, until the function that it gives is called. That
// function says how many were sent.
func (w *wall) stream(t *testing.T, from netip.Addr) (stop func() int) {
	t.Helper()
	w.send(t, from, 0)
	done := make(chan struct{})
	sent := 0
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(3 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				w.send(t, from, 1)
				sent++
			}
		}
	})
	return sync.OnceValue(func() int {
		close(done)
		wg.Wait()
		return sent
	})
}

// TestKernelTampered: somebody flushes a set, deletes the rules, fills the set, removes all. It is repaired, and who is
// allowed does not lose a message meanwhile.
func TestKernelTampered(t *testing.T) {
	acts := map[kernel.Backend][]string{
		kernel.BackendIPSet: {
			"iptables -t raw -F SIPWARD; ip6tables -t raw -D PREROUTING -j SIPWARD",
			"ipset flush sipward-ban4; for i in $(seq 1024); do echo add sipward-ban4 10.0.$((i/256)).$((i%256)); done | ipset restore",
			"iptables -t raw -F; iptables -t raw -X; ip6tables -t raw -F; ip6tables -t raw -X; for s in $(ipset list -n | grep sipward); do ipset destroy $s; done",
		},
		kernel.BackendNFTables: {
			"nft flush chain inet sipward-lists guard4; nft flush chain inet sipward-lists prerouting",
			"s=$(nft list sets inet | grep -o 'ban4.32.g[0-9]*' | head -1); nft flush set inet sipward-lists $s; " +
				"for i in $(seq 1024); do echo add element inet sipward-lists $s { 10.0.$((i/256)).$((i%256)) }; done | nft -f -",
			"nft delete table inet sipward-lists",
		},
	}
	eachBackend(t, func(t *testing.T, b kernel.Backend) {
		w := newWall(t, b, ", interval: 1s, max_entries: 1024", "")
		office, bad := nobody(77), nobody(1)
		w.edge(t, foreign)
		before := w.edge(t, showForeign)
		w.cli(t, "allow "+office.String())
		w.cli(t, "ban "+bad.String()+" --for 1h")
		w.blocked(t, bad)
		stop := w.stream(t, office)
		defer stop()
		for i, act := range acts[b] {
			repairs := w.kernel(t).Repairs
			w.edge(t, act)
			w.send(t, bad, 20) // user space drops them, if the kernel does not
			// On a busy machine a comparison takes long, and there are fewer of them.
			lab.Poll(t, 6*patience, "it is repaired: "+act, func() error {
				if s := w.kernel(t); s.Repairs == repairs {
					return errors.New("it is not")
				}
				return nil
			})
			w.settles(t, "ban4", 1)
			w.blocked(t, bad)
			if n := strings.Count(w.sipward.Log(), "kind=kernel-repaired"); n < i+1 {
				t.Errorf("after %q it was not said that something was repaired", act)
			}
		}
		if after := w.edge(t, showForeign); after != before {
			t.Errorf("what others have was changed; before:\n%s\nnow:\n%s", before, after)
		}
		if n := w.arrived(bad); n > 0 {
			t.Errorf("%d messages of the banned source came through", n)
		}
		sent := stop()
		w.passes(t, office) // and so all before have come
		if n := w.arrived(office); n < sent {
			t.Errorf("%d of %d messages of the allowed source came", n, sent)
		}

		// More than fits: the rest is enforced by sipward alone, and it says so.
		list := filepath.Join(w.Dir(), "deny.txt")
		var text strings.Builder
		for i := range 1200 {
			fmt.Fprintf(&text, "10.1.%d.%d\n", i/256, i%256)
		}
		if err := os.WriteFile(list, []byte(text.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		w.sipward.Edit(t, "lists: {}", fmt.Sprintf("lists: {deny_files: [%q]}", list))
		w.cli(t, "reload")
		lab.Poll(t, patience, "the set is full", func() error {
			if s := w.set(t, "ban4"); s.Entries != 1024 || s.Over != 177 || !strings.Contains(w.sipward.Log(), "kind=kernel-full") {
				return fmt.Errorf("%+v", s)
			}
			return nil
		})
		if out := w.cli(t, "kernel status"); !strings.Contains(out, "FULL") {
			t.Errorf("the status does not say that the set is full:\n%s", out)
		}
		w.passes(t, office)

		// And nothing is left when a person wants it gone.
		w.cli(t, "kernel clear")
		if left := w.edge(t, "ipset list -n | grep sipward || true; nft list tables | grep sipward || true; iptables-save -t raw | grep SIPWARD || true"); left != "" {
			t.Errorf("after clear there is still\n%s", left)
		}
		if after := w.edge(t, showForeign); after != before {
			t.Errorf("clear has changed what others have; before:\n%s\nnow:\n%s", before, after)
		}
	})
}

// What others have on the same machine.
const (
	foreign = `ipset create theirs hash:ip; ipset add theirs 10.9.9.9
		iptables -t filter -A FORWARD -m set --match-set theirs src -j DROP
		nft add table inet theirs; nft add set inet theirs s '{ type ipv4_addr; }'; nft add element inet theirs s '{ 10.9.9.8 }'`
	showForeign = "ipset list theirs; nft list table inet theirs; iptables -t filter -S FORWARD"
)

// TestKernelRestart: the sets outlive kill -9; at the next start they are made the same as the table, and at no instant does
// a message of a banned source pass. What happened to the sets meanwhile does not matter.
func TestKernelRestart(t *testing.T) {
	meanwhile := map[kernel.Backend]string{
		kernel.BackendIPSet:    "ipset add sipward-ban4 10.0.0.9; ipset del sipward-ban4 192.0.2.2",
		kernel.BackendNFTables: "s=$(nft list sets inet | grep -o 'ban4.32.g[0-9]*' | head -1); nft add element inet sipward-lists $s { 10.0.0.9 }; nft delete element inet sipward-lists $s { 192.0.2.2 }",
	}
	eachBackend(t, func(t *testing.T, b kernel.Backend) {
		w := newWall(t, b, "", "overload: {kernel_strangers: 5000}\n")
		bad, deleted, good := nobody(1), nobody(2), nobody(3)
		w.cli(t, "ban "+bad.String()+" --for 1h")
		w.cli(t, "ban "+deleted.String())
		w.cli(t, "ban "+lab.Phone6(1).String()+" --for 1h")
		w.blocked(t, bad)
		stops := []func() int{w.stream(t, bad), w.stream(t, deleted)}
		for range 3 {
			w.sipward.KillHard()
			w.edge(t, meanwhile[b])
			w.sipward.Restart(t)
			w.follows(t)
		}
		for _, stop := range stops {
			stop()
		}
		w.passes(t, good)
		for _, a := range []netip.Addr{bad, deleted} {
			if n := w.arrived(a); n > 0 {
				t.Errorf("%d messages of the banned %v came through", n, a)
			}
			w.blocked(t, a)
		}
		w.blocked(t, lab.Phone6(2))
		var table struct{ Bans []ban }
		if err := json.Unmarshal([]byte(w.cli(t, "list bans --json")), &table); err != nil {
			t.Fatal(err)
		}
		if s := w.kernel(t); len(table.Bans) != 3 || s.Sets[4].Entries != 2 || s.Sets[5].Entries != 1 || s.Repairs != 0 {
			t.Errorf("%d bans, and the kernel has %+v", len(table.Bans), s)
		}
		if left := w.edge(t, "ipset list; nft list ruleset"); strings.Contains(left, "10.0.0.9") {
			t.Errorf("what was put in meanwhile is still there:\n%s", left)
		}
	})
}

// TestKernelDenied: without the right to change the kernel sipward works as ever, and says so once.
func TestKernelDenied(t *testing.T) {
	lab.Need(t, "setpriv")
	w := newWall(t, kernel.BackendNone, "", "")
	w.sipward.KillHard()
	w.sipward.Edit(t, "kernel: {backend: none", "kernel: {backend: auto")
	w.sipward.Wrap = []string{"setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin"}
	w.sipward.Restart(t)
	bad := nobody(1)
	w.passes(t, bad)
	before := w.arrived(bad)
	w.cli(t, "ban "+bad.String())
	w.send(t, bad, 20)
	w.counted(t, 0, 20, "ban")
	if n := w.arrived(bad) - before; n > 0 {
		t.Errorf("%d messages of a banned source came through", n)
	}
	log := w.sipward.Log()
	if n := strings.Count(log, "kind=kernel-down"); n != 1 || strings.Count(log, "level=WARN") != 1 || !strings.Contains(log, "CAP_NET_ADMIN") {
		t.Errorf("the log says:\n%s", log)
	}
	if s := w.kernel(t); s.Backend != kernel.BackendNone || !strings.Contains(s.Reason, "CAP_NET_ADMIN") {
		t.Errorf("the status is %+v", s)
	}
}
