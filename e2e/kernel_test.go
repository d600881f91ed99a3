//go:build linux

package e2e_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"sipward/e2e/lab"
	"sipward/e2e/phone"
	"sipward/listsync/kernel"
)

// kernelBackends are those that run the same tests.
var kernelBackends = []kernel.Backend{kernel.BackendIPSet, kernel.BackendNFTables}

// wall is sipward with its bans in the kernel of the edge, and a PBX that only notes what reaches it.
type wall struct {
	*site
	backend kernel.Backend
	sink    *net.UDPConn

	mu      sync.Mutex
	senders map[netip.Addr]*net.UDPConn
	n       int
	came    map[string]int // messages at the PBX by their source
	last    string         // id of the last of them
}

// newWall starts one. extra has "kernel: {" in it, to be filled in.
func newWall(t *testing.T, b kernel.Backend, settings, extra string) *wall {
	t.Helper()
	lab.Need(t, "ipset", "iptables", "ip6tables")
	if direct {
		t.Skip("there is no sipward whose bans could be in the kernel")
	}
	w := &wall{site: &site{Lab: labs.New(t)}, backend: b, senders: map[netip.Addr]*net.UDPConn{}, came: map[string]int{}}
	w.sink = must[*net.UDPConn](t)(w.PBX.ListenUDP(netip.AddrPortFrom(lab.PBX1, 5060)))
	var wg sync.WaitGroup
	wg.Go(w.receive)
	t.Cleanup(func() {
		w.sink.Close()
		wg.Wait()
		for _, c := range w.senders {
			c.Close()
		}
	})
	w.start(t, lab.Config{Extra: fmt.Sprintf("health: {probe: \"off\"}\nlog: {level: info}\nkernel: {backend: %s%s}\n%s", b, settings, extra)})
	if b != kernel.BackendNone {
		w.follows(t)
	}
	return w
}

// eachBackend runs a test with both.
func eachBackend(t *testing.T, f func(t *testing.T, b kernel.Backend)) {
	for _, b := range kernelBackends {
		t.Run(string(b), func(t *testing.T) { f(t, b) })
	}
}

// callIDs begin with the source.
const kernelMark = "Call-ID: kernel_"

func (w *wall) receive() {
	b := make([]byte, 65536)
	for {
		n, err := w.sink.Read(b)
		if err != nil {
			return
		}
		_, id, ok := bytes.Cut(b[:n], []byte(kernelMark))
		if source, _, found := bytes.Cut(id, []byte("_")); ok && found {
			id, _, _ = bytes.Cut(id, []byte("@"))
			w.mu.Lock()
			w.came[string(source)]++
			w.last = string(id)
			w.mu.Unlock()
		}
	}
}

// arrived is how many messages of a source have come to the PBX.
func (w *wall) arrived(from netip.Addr) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.came[from.String()]
}

// message is an ordinary request of a new transaction.
func (w *wall) message(from netip.Addr) []byte {
	w.mu.Lock()
	w.n++
	id := fmt.Sprintf("kernel_%v_%d", from, w.n)
	w.mu.Unlock()
	b, _ := letter("OPTIONS", "sip:example.com", "100", "example.com", netip.AddrPortFrom(from, 5060), phone.UDP, id)
	return b
}

// send sends n messages to sipward.
func (w *wall) send(t *testing.T, from netip.Addr, n int) {
	t.Helper()
	for range n {
		w.write(t, from, w.message(from))
	}
}

func (w *wall) write(t *testing.T, from netip.Addr, b []byte) {
	t.Helper()
	w.mu.Lock()
	c := w.senders[from]
	if c == nil {
		c = must[*net.UDPConn](t)(w.WAN.ListenUDP(netip.AddrPortFrom(from, 5060)))
		w.senders[from] = c
	}
	w.mu.Unlock()
	if _, err := c.WriteToUDPAddrPort(b, w.proxy(from.Is6())); err != nil {
		t.Fatal(err)
	}
}

// scan sends what an attack tool sends.
func (w *wall) scan(t *testing.T, from netip.Addr) {
	t.Helper()
	w.write(t, from, bytes.Replace(w.message(from), []byte("Yealink SIP-T46S 66.86.0.15"), []byte("friendly-scanner"), 1))
}

// passes waits until a message of the source comes through, and all others that were on their way.
func (w *wall) passes(t *testing.T, from netip.Addr) {
	t.Helper()
	lab.Poll(t, patience, fmt.Sprintf("a message of %v passes", from), func() error {
		w.send(t, from, 1)
		return lab.Wait(40*time.Millisecond, func() error {
			w.mu.Lock()
			defer w.mu.Unlock()
			if want := fmt.Sprintf("%v_%d", from, w.n); w.last != want {
				return fmt.Errorf("%s has not come", want)
			}
			return nil
		})
	})
}

// blocked checks that the kernel drops what a source sends: none of it comes to sipward.
func (w *wall) blocked(t *testing.T, from netip.Addr) {
	t.Helper()
	const n = 20
	before, user, dropped := w.arrived(from), w.reasons(t, "ban", "deny-list"), w.kernel(t).DroppedBans
	w.send(t, from, n)
	lab.Poll(t, patience, fmt.Sprintf("the kernel drops what %v sends", from), func() error {
		if got := w.kernel(t).DroppedBans - dropped; got < n {
			w.send(t, from, 1) // rules that are made anew forget what was counted since the last look
			return fmt.Errorf("it dropped %d of %d", got, n)
		}
		return nil
	})
	if got := w.arrived(from) - before; got > 0 {
		t.Errorf("%d messages of %v came through", got, from)
	}
	if got := w.reasons(t, "ban", "deny-list") - user; got > 0 {
		t.Errorf("%d messages of %v came to sipward", got, from)
	}
}

// kernel is `sipward kernel status`.
func (w *wall) kernel(t *testing.T) (s kernel.Status) {
	t.Helper()
	out := must[string](t)(w.sipward.CLI("kernel", "status", "--json"))
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		t.Fatalf("read the kernel's status: %v: %s", err, out)
	}
	return s
}

// set is one of the sets.
func (w *wall) set(t *testing.T, name string) kernel.SetStatus {
	t.Helper()
	for _, s := range w.kernel(t).Sets {
		if s.Name == name {
			return s
		}
	}
	t.Fatalf("there is no set %s", name)
	return kernel.SetStatus{}
}

// follows waits until the kernel does.
func (w *wall) follows(t *testing.T) {
	t.Helper()
	lab.Poll(t, patience, "the kernel follows", func() error {
		if s := w.kernel(t); s.Reason != "" || s.Backend != w.backend {
			return fmt.Errorf("%s: %s", s.Backend, s.Reason)
		}
		return nil
	})
}

// settles waits until so many entries are in a set.
func (w *wall) settles(t *testing.T, set string, entries int) {
	t.Helper()
	lab.Poll(t, patience, fmt.Sprintf("%d entries are in %s", entries, set), func() error {
		if s := w.set(t, set); s.Entries != entries || s.Pending > 0 {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
}

// cli runs a command of sipward that must succeed.
func (w *wall) cli(t *testing.T, line string) string {
	t.Helper()
	return must[string](t)(w.sipward.CLI(strings.Fields(line)...))
}

// edge runs a shell command on the edge.
func (w *wall) edge(t *testing.T, script string) string {
	t.Helper()
	return must[string](t)(w.Edge.Output("sh", "-ec", script))
}

// nobody is the n-th address that sipward knows nothing of.
func nobody(n int) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, byte(n)}) }

// TestKernelBans: what a guard or a person bans is dropped by the kernel, until the ban ends, for everybody but the allow list.
func TestKernelBans(t *testing.T) {
	eachBackend(t, func(t *testing.T, b kernel.Backend) {
		w := newWall(t, b, "", "")
		office, scanner, person, short := nobody(77), nobody(1), nobody(2), nobody(3)
		w.cli(t, "allow "+office.String())
		w.passes(t, scanner)

		// A message that shows an attack tool, and whatever else was on its way.
		before := w.arrived(scanner)
		w.scan(t, scanner)
		w.send(t, scanner, 100)
		w.settles(t, "ban4", 1)
		if n := w.arrived(scanner) - before; n > 0 {
			t.Errorf("%d messages came through between the ban and the kernel", n)
		}
		w.blocked(t, scanner)

		// A ban that ends by itself: neither side ends it sooner or later than the other.
		at := time.Now()
		w.cli(t, "ban "+short.String()+" --for 2s")
		w.blocked(t, short)
		w.passes(t, short)
		if d := time.Since(at); d < 1900*time.Millisecond || d > patience {
			t.Errorf("a ban of 2 s has ended after %v", d)
		}

		// Bans of prefixes, with an office inside.
		w.cli(t, "ban "+person.String()+" --for 1h")
		w.cli(t, "ban 192.0.2.0/24 --force --for 1h")
		six, same := lab.Phone6(1), lab.Phone6(2)
		w.cli(t, "ban "+six.String()) // its /64
		w.settles(t, "ban6", 1)
		w.settles(t, "ban4", 3)
		w.blocked(t, person)
		w.blocked(t, short)
		w.blocked(t, six)
		w.blocked(t, same)
		w.passes(t, office)
		w.cli(t, "unban "+six.String())
		w.passes(t, same)
		w.cli(t, "unban 192.0.2.0/24")
		w.passes(t, short)
		w.blocked(t, person)

		// A person takes it back: at once.
		w.cli(t, "unban "+person.String())
		at = time.Now()
		w.passes(t, person)
		t.Logf("%v: unbanned, and the next message passed within %v", b, time.Since(at).Round(time.Millisecond))

		// The lists by command.
		w.cli(t, "deny "+person.String())
		w.blocked(t, person)
		w.cli(t, "allow "+person.String())
		w.passes(t, person)
	})
}
