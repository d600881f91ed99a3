//go:build linux

// Package lab builds the networks in which the end-to-end tests run: hosts that are network namespaces, real peers in
// them (Asterisk, Kamailio, SIPp, a DNS server), and the built sipward binary between the peers and the phones.
//
//	            wan                          edge                          pbx
//	┌──────────────────────────┐  ┌───────────────────────┐  ┌──────────────────────────────┐
//	│ phones, carriers:        │  │        sipward        │  │ PBX 203.0.113.2, .3 (:5060)  │
//	│   198.51.100.16 … .250   │  │ 198.51.100.1          │  │     2001:db8:2::2, ::3       │
//	│   2001:db8:1::10 … ::1f  │  │          203.0.113.1  │  │                              │
//	│ DNS: 198.51.100.53       ├──┤ 2001:db8:1::1         ├──┤                              │
//	│ strangers: 192.0.2.0/24, │  │        2001:db8:2::1  │  │                              │
//	│   and every other address│  │ forwards no packet    │  │                              │
//	└──────────────────────────┘  └───────────────────────┘  └──────────────────────────────┘
//
// The edge does not forward: what reaches the other side went through sipward. Everything that a lab makes carries the
// name of its process, so that runs do not collide, and a later run removes what a killed one has left.
package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"sipward/proxy/certs/certstest"
)

// Addresses of a lab.
var (
	EdgeWAN  = netip.MustParseAddr("198.51.100.1")
	EdgeWAN6 = netip.MustParseAddr("2001:db8:1::1")
	EdgePBX  = netip.MustParseAddr("203.0.113.1")
	EdgePBX6 = netip.MustParseAddr("2001:db8:2::1")
	PBX1     = netip.MustParseAddr("203.0.113.2")
	PBX2     = netip.MustParseAddr("203.0.113.3")
	PBX1v6   = netip.MustParseAddr("2001:db8:2::2")
	WANHost  = netip.MustParseAddr("198.51.100.254") // programs that choose no address of a phone
	DNS      = netip.MustParseAddr("198.51.100.53")
	// Nobody answers there, not even to ARP.
	Nobody = netip.MustParseAddr("198.51.100.9")
)

// Phone is the n-th address for phones, 0 … 99.
func Phone(n int) netip.Addr { return netip.AddrFrom4([4]byte{198, 51, 100, byte(100 + n)}) }

// Phone6 is the n-th IPv6 address for phones, 0 … 15.
func Phone6(n int) netip.Addr {
	a := netip.MustParseAddr("2001:db8:1::10").As16()
	a[15] += byte(n)
	return netip.AddrFrom16(a)
}

// Run is what all labs of one test process share. TestMain makes it and closes it.
type Run struct {
	prefix string // of everything that has a name outside the process
	dir    string

	mu   sync.Mutex
	labs []*Lab
	n    int
	bin  func() (string, error)
}

// Start removes the remains of earlier runs and makes the directory of this one.
func Start() (*Run, error) {
	prefix, err := ownPrefix()
	if err != nil {
		return nil, err
	}
	removeRemains()
	dir := filepath.Join(os.TempDir(), prefix)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the lab's directory: %w", err)
	}
	r := &Run{prefix: prefix, dir: dir}
	r.bin = sync.OnceValues(r.build)
	return r, nil
}

// Close ends every lab that is still there. It may be called from a signal handler while tests run.
func (r *Run) Close() {
	r.mu.Lock()
	labs := r.labs
	r.labs = nil
	r.mu.Unlock()
	for _, l := range labs {
		l.close()
	}
	_ = os.RemoveAll(r.dir)
}

// Lab is one set of namespaces and what runs in them.
type Lab struct {
	WAN, Edge, PBX *Namespace
	// External is the address that Asterisk tells phones where the edge hides its own.
	External netip.Addr
	// Certificate is what the PBXes show on their TLS port, 5061. Without one they have no such port.
	Certificate *certstest.Issued

	run    *Run
	prefix string
	dir    string

	mu        sync.Mutex
	processes []*Process
	cleanups  []func()
	closed    bool
}

// New makes a lab that lives as long as the test. When the test fails, the ends of all logs are printed.
func (r *Run) New(t *testing.T) *Lab {
	t.Helper()
	r.mu.Lock()
	r.n++
	l := &Lab{run: r, prefix: fmt.Sprintf("%s-%d", r.prefix, r.n)}
	l.dir = filepath.Join(r.dir, fmt.Sprint(r.n))
	r.labs = append(r.labs, l)
	r.mu.Unlock()
	t.Cleanup(l.close)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(l.Logs())
		}
	})
	if err := errors.Join(os.Mkdir(l.dir, 0o755), l.build()); err != nil {
		t.Fatalf("build the lab: %v", err)
	}
	return l
}

// Dir is a directory for the lab's files.
func (l *Lab) Dir() string { return l.dir }

// build makes the namespaces and joins them.
func (l *Lab) build() error {
	for _, host := range []struct {
		name string
		ns   **Namespace
	}{{"wan", &l.WAN}, {"edge", &l.Edge}, {"pbx", &l.PBX}} {
		ns, err := newNamespace(l.prefix + "-" + host.name)
		if err != nil {
			return err
		}
		*host.ns = ns
	}
	links := fmt.Sprintf("link add wan0 netns %[1]s type veth peer name eth0 netns %[2]s\n"+
		"link add pbx0 netns %[1]s type veth peer name eth0 netns %[3]s\n", l.Edge.Name, l.WAN.Name, l.PBX.Name)
	if err := ipBatch("", links); err != nil {
		return err
	}
	wan := `
addr add 198.51.100.254/24 dev eth0
addr add 2001:db8:1::fe/64 dev eth0 nodad
link set eth0 up
route add default via 198.51.100.1
route add default via 2001:db8:1::1
route add local 198.51.100.16/28 dev lo
route add local 198.51.100.32/27 dev lo
route add local 198.51.100.64/26 dev lo
route add local 198.51.100.128/26 dev lo
route add local 198.51.100.192/27 dev lo
route add local 198.51.100.224/28 dev lo
route add local 192.0.2.0/24 dev lo
`
	for n := range 16 {
		wan += fmt.Sprintf("addr add %v/64 dev eth0 nodad\n", Phone6(n))
	}
	edge := `
addr add 198.51.100.1/24 dev wan0
addr add 2001:db8:1::1/64 dev wan0 nodad
addr add 203.0.113.1/24 dev pbx0
addr add 2001:db8:2::1/64 dev pbx0 nodad
link set wan0 up
link set pbx0 up
route add default via 198.51.100.254
route add default via 2001:db8:1::fe
`
	pbx := `
addr add 203.0.113.2/24 dev eth0
addr add 203.0.113.3/24 dev eth0
addr add 2001:db8:2::2/64 dev eth0 nodad
addr add 2001:db8:2::3/64 dev eth0 nodad
link set eth0 up
route add default via 203.0.113.1
route add default via 2001:db8:2::1
`
	return errors.Join(ipBatch(l.WAN.Name, wan), ipBatch(l.Edge.Name, edge), ipBatch(l.PBX.Name, pbx))
}

// Direct lets the edge forward packets, so that phones can speak to the PBX without sipward: to test the lab itself.
func (l *Lab) Direct(t *testing.T) {
	t.Helper()
	if err := l.Edge.Sysctl(map[string]string{"net/ipv4/ip_forward": "1", "net/ipv6/conf/all/forwarding": "1"}); err != nil {
		t.Fatal(err)
	}
}

// onClose adds what is to be done when the lab ends, last added first.
func (l *Lab) onClose(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cleanups = append(l.cleanups, f)
}

func (l *Lab) close() {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return
	}
	l.closed = true
	processes, cleanups := l.processes, l.cleanups
	l.mu.Unlock()
	for i := len(cleanups) - 1; i >= 0; i-- {
		cleanups[i]()
	}
	for _, p := range processes {
		p.Kill()
	}
	for _, ns := range []*Namespace{l.WAN, l.Edge, l.PBX} {
		if ns != nil {
			ns.remove()
		}
	}
	_ = os.RemoveAll(l.dir)
}

// Logs gives the ends of the logs of everything that ran in the lab.
func (l *Lab) Logs() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	text := ""
	for _, p := range l.processes {
		text += fmt.Sprintf("──── %s (end of its log)\n%s\n", p.Name, p.Tail(6000))
	}
	return text
}
