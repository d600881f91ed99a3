//go:build linux

package e2e_test

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sipward/e2e/lab"
)

var tftpServer = netip.AddrPortFrom(lab.PBX1, 69)

// tftpConfig relays to tftpServer; more are further keys of the section.
func tftpConfig(more string) lab.Config {
	return lab.Config{Extra: `health: {probe: "off"}` + "\ntftp:\n" +
		`  listen: ["udp://198.51.100.1:69", "udp://[2001:db8:1::1]:69"]` + "\n  upstream: 203.0.113.2:69\n" + more}
}

// library is sipward in front of a TFTP server.
type library struct {
	*site
	*lab.TFTPServer
	downloads atomic.Int64
}

func newLibrary(t *testing.T, more string) *library {
	t.Helper()
	lab.Need(t, "tftp", "in.tftpd", "curl")
	if direct {
		t.Skip("these are about sipward's relay")
	}
	l := &library{site: &site{Lab: labs.New(t)}}
	l.TFTPServer = l.StartTFTP(t, tftpServer)
	l.start(t, tftpConfig(more))
	return l
}

// download runs a client; OUT is where it puts the file.
func (l *library) download(argv ...string) ([]byte, error) {
	out := filepath.Join(l.Lab.Dir(), fmt.Sprint("download-", l.downloads.Add(1)))
	for i, a := range argv {
		argv[i] = strings.ReplaceAll(a, "OUT", out)
	}
	text, err := l.WAN.Output(argv...)
	b, readErr := os.ReadFile(out)
	if err == nil && readErr != nil {
		err = fmt.Errorf("%w: %s", readErr, text)
	}
	return b, err
}

func (l *library) hpa(mode, name string) ([]byte, error) {
	return l.download("tftp", "-m", mode, lab.EdgeWAN.String(), "-c", "get", name, "OUT")
}

func (l *library) curl(host string, blockSize int, name string, more ...string) ([]byte, error) {
	argv := append([]string{"curl", "-sS", "--max-time", "100", "--tftp-blksize", fmt.Sprint(blockSize), "-o", "OUT"}, more...)
	return l.download(append(argv, fmt.Sprintf("tftp://%s/%s", host, name))...)
}

// is fails the test unless a file has arrived as it is.
func is(t *testing.T, want []byte) func([]byte, error) {
	return func(got []byte, err error) {
		t.Helper()
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes of %d have arrived, or others: %v", len(got), len(want), err)
		}
	}
}

// TestTFTP: unmodified clients read from an unmodified server through sipward.
func TestTFTP(t *testing.T) {
	t.Parallel()
	l := newLibrary(t, "")
	five := l.File(t, "five.bin", 5<<20)
	small := l.File(t, "small.cfg", 20_000)
	text := []byte(strings.Repeat("line of a phone's configuration\nand\ttab\r and CR\n", 500))
	if err := os.WriteFile(filepath.Join(l.TFTPServer.Dir, "text.cfg"), text, 0o644); err != nil {
		t.Fatal(err)
	}
	t.Run("octet", func(t *testing.T) { is(t, five)(l.hpa("octet", "five.bin")) })
	t.Run("netascii", func(t *testing.T) { is(t, text)(l.hpa("netascii", "text.cfg")) })
	for _, size := range []int{512, 1428, 8192} {
		t.Run(fmt.Sprint("blksize-", size), func(t *testing.T) { is(t, five)(l.curl(lab.EdgeWAN.String(), size, "five.bin")) })
	}
	t.Run("tsize", func(t *testing.T) {
		out, err := l.WAN.Output("curl", "-sv", "--max-time", "20", "-o", "/dev/null", "tftp://198.51.100.1/five.bin")
		if err != nil || !strings.Contains(out, fmt.Sprintf("tsize parsed from OACK (%d)", len(five))) {
			t.Errorf("%v: %s", err, out)
		}
	})
	t.Run("ipv6", func(t *testing.T) { is(t, small)(l.curl("["+lab.EdgeWAN6.String()+"]", 1428, "small.cfg")) })
	t.Run("many", func(t *testing.T) {
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() { is(t, five)(l.curl(lab.EdgeWAN.String(), 8192, "five.bin")) })
		}
		wg.Wait()
	})
	t.Run("refused", l.testTFTPRefused)
	t.Run("forged", l.testTFTPForged)
	t.Run("loss", l.testTFTPLoss)
}

// testTFTPLoss: a twentieth of everything is lost on its way to sipward and to the clients, and all files
// arrive: the peers send again. They wait twice as long each time, so four losses of one block in a row
// outlast the 25 s of a client. One exchange in seven is lost (DATA on two links, ACK on one), and a file of
// 40 blocks meets four in a row once in sixty. So each client may begin anew once, as a phone does; that two
// in a row fail happens in one run of 500. Without options: with a timeout that a client asks for, the server
// waits for half a minute after three losses.
func (l *library) testTFTPLoss(t *testing.T) {
	for _, host := range []*lab.Namespace{l.WAN, l.Edge} {
		stop := must[func()](t)(host.Loss("", 5))
		defer stop()
	}
	small := must[[]byte](t)(os.ReadFile(filepath.Join(l.TFTPServer.Dir, "small.cfg")))
	twice := func(read func() ([]byte, error)) ([]byte, error) {
		got, err := read()
		if err == nil && bytes.Equal(got, small) {
			return got, nil
		}
		t.Logf("%d bytes, %v; once more", len(got), err)
		return read()
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			is(t, small)(twice(func() ([]byte, error) { return l.hpa("octet", "small.cfg") }))
		})
		wg.Go(func() {
			is(t, small)(twice(func() ([]byte, error) {
				return l.curl(lab.EdgeWAN.String(), 512, "small.cfg", "--tftp-no-options")
			}))
		})
	}
	wg.Wait()
}

// testTFTPRefused: what may not be asked for reaches no server.
func (l *library) testTFTPRefused(t *testing.T) {
	asked := must[*lab.Counter](t)(l.PBX.CountMatching("tftp", "udp dport 69", lab.PBX1))
	file := filepath.Join(l.Lab.Dir(), "upload")
	if err := os.WriteFile(file, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := l.WAN.Output("curl", "-sS", "--max-time", "20", "-T", file, "tftp://198.51.100.1/upload"); err == nil {
		t.Errorf("an upload succeeded: %s", out)
	}
	if out, _ := l.WAN.Output("tftp", "-m", "octet", "198.51.100.1", "-c", "put", file, "upload"); !strings.Contains(out, "read only") {
		t.Errorf("an upload is answered %q", out)
	}
	for _, name := range []string{"../../etc/passwd", "/etc/passwd", `..\..\etc\passwd`, "%2e%2e/%2e%2e/etc/passwd"} {
		if out, _ := l.WAN.Output("tftp", "-m", "octet", "198.51.100.1", "-c", "get", name, "/dev/null"); !strings.Contains(out, "Error code 2") {
			t.Errorf("%s is answered %q", name, out)
		}
	}
	if n := must[int](t)(asked.Packets()); n != 0 {
		t.Errorf("%d requests have reached the server", n)
	}
	if n := must[int64](t)(l.sipward.Count("reasons", "tftp-path")); n != 4 {
		t.Errorf("%d requests count as led astray", n)
	}
	if text := l.explain(t, netip.MustParseAddr("198.51.100.254")); !strings.Contains(text, "../../etc/passwd") || !strings.Contains(text, "tftp-path") {
		t.Errorf("explain does not show what was asked for:\n%s", text)
	}
}

// rrq is a request to read.
func rrq(name string, options ...string) []byte {
	b := append([]byte("\x00\x01"+name), "\x00octet\x00"...)
	for _, o := range options {
		b = append(append(b, o...), 0)
	}
	return b
}

// testTFTPForged: a request in another's name draws one packet to that other, however
// often the server repeats it, and many cost little.
func (l *library) testTFTPForged(t *testing.T) {
	f := must[*lab.Forger](t)(l.Forger())
	defer f.Close()
	to := netip.AddrPortFrom(lab.EdgeWAN, 69)
	for i, options := range [][]string{nil, {"blksize", "8192", "windowsize", "64", "tsize", "0"}} {
		victim := lab.Phone(60 + i)
		hit := must[*lab.Counter](t)(l.WAN.CountMatching(fmt.Sprint("victim", i), "meta l4proto udp", victim))
		before := must[int64](t)(l.sipward.Count("tftp", "withheld"))
		if err := f.Send(netip.AddrPortFrom(victim, 2000), to, rrq("five.bin", options...)); err != nil {
			t.Fatal(err)
		}
		lab.Poll(t, 20*time.Second, "the server repeats its answer", func() error {
			if n, err := l.sipward.Count("tftp", "withheld"); err != nil || n < before+3 {
				return fmt.Errorf("%d packets withheld, %v", n-before, err)
			}
			return nil
		})
		if n := must[int](t)(hit.Packets()); n != 1 {
			t.Errorf("%d packets have come to the victim, with options %q", n, options)
		}
	}
	_, before, err := l.sipward.Memory()
	if err != nil {
		t.Fatal(err)
	}
	for i := range 20_000 {
		from := netip.AddrFrom4([4]byte{192, 0, 2, byte(i)})
		if err := f.Queue(netip.AddrPortFrom(from, uint16(1024+i)), to, rrq("five.bin", "blksize", "65464")); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Flush(); err != nil {
		t.Fatal(err)
	}
	lab.Poll(t, 20*time.Second, "forged requests exceed the budget of strangers", func() error {
		if n, err := l.sipward.Count("reasons", "tftp-busy"); err != nil || n < 1000 {
			return fmt.Errorf("%d requests refused, %v", n, err)
		}
		return nil
	})
	_, after, err := l.sipward.Memory()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("20,000 forged requests: memory at its highest rose from %d to %d KiB", before>>10, after>>10)
	if after-before > 64<<20 {
		t.Errorf("20,000 forged requests cost %d MiB", (after-before)>>20)
	}
	// Who is known does not notice.
	if out, err := l.sipward.CLI("allow", lab.Phone(70).String()); err != nil {
		t.Fatal(out, err)
	}
	is(t, must[[]byte](t)(os.ReadFile(filepath.Join(l.TFTPServer.Dir, "small.cfg"))))(
		l.curl(lab.EdgeWAN.String(), 1428, "small.cfg", "--interface", lab.Phone(70).String()))
}

// TestTFTPWindow: a client and a server that know windows use them through sipward.
func TestTFTPWindow(t *testing.T) {
	t.Parallel()
	lab.Need(t, "atftp", "atftpd")
	if direct {
		t.Skip("this is about sipward's relay")
	}
	l := &library{site: &site{Lab: labs.New(t)}}
	l.TFTPServer = l.StartATFTP(t, tftpServer)
	l.start(t, tftpConfig(""))
	five := l.File(t, "five.bin", 5<<20)
	for _, window := range []string{"1", "4", "16"} {
		is(t, five)(l.download("atftp", "--option", "windowsize "+window, "--option", "blksize 1428", "--option", "tsize 0",
			"-g", "-r", "five.bin", "-l", "OUT", lab.EdgeWAN.String(), "69"))
	}
	if log := l.TFTPServer.Process.Log(); !strings.Contains(log, "windowsize: 16") {
		t.Errorf("the server was not asked for a window:\n%s", l.TFTPServer.Process.Tail(2000))
	}
}

// ask sends a request from an address and says what comes back: the operation, 0 for
// nothing.
func (l *library) ask(from netip.Addr, name string) (byte, error) {
	conn, err := l.WAN.ListenUDP(netip.AddrPortFrom(from, 0))
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	if _, err := conn.WriteToUDPAddrPort(rrq(name), netip.AddrPortFrom(lab.EdgeWAN, 69)); err != nil {
		return 0, err
	}
	if err := conn.SetReadDeadline(time.Now().Add(400 * time.Millisecond)); err != nil {
		return 0, err
	}
	b := make([]byte, 600)
	n, at, err := conn.ReadFromUDPAddrPort(b)
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return 0, nil
	}
	if err != nil || n < 4 {
		return 0, fmt.Errorf("%d bytes: %w", n, err)
	}
	if b[1] == 3 {
		_, err = conn.WriteToUDPAddrPort([]byte{0, 4, b[2], b[3]}, at)
	}
	return b[1], err
}

// answers asks n times and says how many answers came.
func (l *library) answers(t *testing.T, from netip.Addr, n int, name func(int) string) int {
	t.Helper()
	var got atomic.Int64
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			op, err := l.ask(from, name(i))
			if err != nil {
				t.Error(err)
			}
			if op != 0 {
				got.Add(1)
			}
		})
	}
	wg.Wait()
	return int(got.Load())
}

// TestTFTPLimit: who asks too often is limited, and free again after a calm period; the
// others do not notice.
func TestTFTPLimit(t *testing.T) {
	t.Parallel()
	l := newLibrary(t, "  threshold: 20\n  period: 4s\n  limited_rate: 5\n")
	who, other := lab.Phone(1), lab.Phone(2)
	ready := func(int) string { return "ready" }
	if n := l.answers(t, who, 20, ready); n != 20 {
		t.Fatalf("%d of 20 requests were answered", n)
	}
	if n := l.answers(t, who, 15, ready); n != 0 {
		t.Errorf("%d of 15 more were answered", n)
	}
	if n := l.answers(t, other, 10, ready); n != 10 {
		t.Errorf("%d of 10 requests of another were answered", n)
	}
	if n := l.notices(t, "request-limit"); len(n) != 1 || !strings.Contains(n[0], "tftp.threshold") {
		t.Errorf("the notices are %q", n)
	}
	if text := l.explain(t, who); !strings.Contains(text, "requests for files within 4s") || !strings.Contains(text, "sipward unban "+who.String()) {
		t.Errorf("explain says\n%s", text)
	}
	if n := must[int64](t)(l.sipward.Count("tftp", "limited")); n != 1 {
		t.Errorf("%d sources are limited", n)
	}
	lab.Poll(t, 15*time.Second, "a calm period", func() error {
		if n := l.notices(t, "request-calm"); len(n) != 1 {
			return fmt.Errorf("the notices are %q", n)
		}
		return nil
	})
	if n := l.answers(t, who, 20, ready); n != 20 {
		t.Errorf("after a calm period %d of 20 requests were answered", n)
	}
	// The administrator can end it at once.
	if n := l.answers(t, who, 15, ready); n != 0 {
		t.Errorf("%d of 15 more were answered", n)
	}
	if out, err := l.sipward.CLI("unban", who.String()); err != nil {
		t.Error(out, err)
	}
	if n := l.answers(t, who, 20, ready); n != 20 {
		t.Errorf("after unban %d of 20 requests were answered", n)
	}
	l.nobodyBanned(t)
}

// TestTFTPSweep: who tries the names of many phones is banned, for SIP and in the kernel,
// too; a phone that asks again and again is not.
func TestTFTPSweep(t *testing.T) {
	t.Parallel()
	l := newLibrary(t, "kernel: {backend: nftables}\n")
	honest, sweeper := lab.Phone(1), lab.Phone(2)
	if n := l.answers(t, honest, 60, func(i int) string { return fmt.Sprintf("0004f2aabbcc%s.cfg", []string{"", "-web", "-phone"}[i%3]) }); n != 60 {
		t.Errorf("a phone that tries again got %d of 60 answers", n)
	}
	l.nobodyBanned(t)
	if n := l.answers(t, sweeper, 60, func(i int) string { return fmt.Sprintf("0004f2%06x.cfg", i) }); n < 29 || n > 59 {
		t.Errorf("the sweeper got %d of 60 answers", n)
	}
	b := l.isBanned(t, sweeper)
	if b.Guard != "enumeration" || b.Proven {
		t.Errorf("the ban is %+v", b)
	}
	if text := l.explain(t, sweeper); !strings.Contains(text, "0004f20000") {
		t.Errorf("explain does not show what was asked for:\n%s", text)
	}
	rules := must[string](t)(l.Edge.Output("nft", "list", "table", "inet", "sipward-lists"))
	if !strings.Contains(rules, "69") {
		t.Errorf("the kernel does not guard port 69:\n%s", rules)
	}
	if n := l.answers(t, sweeper, 3, func(int) string { return "ready" }); n != 0 {
		t.Errorf("banned he got %d answers", n)
	}
}

// TestTFTPServe: sipward serves a folder itself.
func TestTFTPServe(t *testing.T) {
	t.Parallel()
	lab.Need(t, "tftp", "curl")
	if direct {
		t.Skip("this is about sipward's own server")
	}
	l := &library{site: &site{Lab: labs.New(t)}}
	l.TFTPServer = &lab.TFTPServer{Dir: l.Lab.Dir()}
	five := l.File(t, "five.bin", 5<<20)
	l.start(t, lab.Config{Extra: `health: {probe: "off"}` + "\ntftp: {listen: udp://0.0.0.0:69, serve: " + l.Lab.Dir() + "}\n"})
	is(t, five)(l.hpa("octet", "five.bin"))
	for _, size := range []int{512, 1428, 8192} {
		is(t, five)(l.curl(lab.EdgeWAN.String(), size, "five.bin"))
	}
	if out, _ := l.WAN.Output("tftp", "-m", "octet", "198.51.100.1", "-c", "get", "../../etc/passwd", "/dev/null"); !strings.Contains(out, "Error code 2") {
		t.Errorf("a name that leads out is answered %q", out)
	}
	if out, err := l.sipward.CLI("status"); err != nil || !strings.Contains(out, "completed 4") {
		t.Errorf("%v\n%s", err, out)
	}
}
