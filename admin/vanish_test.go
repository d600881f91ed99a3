package admin_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sipward/admin"
	"sipward/policy/event"
)

// apart puts the rest of a test into a network namespace of its own, where it may lose packets.
// Sockets that it opens and programs that it starts are there.
func apart(t *testing.T) {
	t.Helper()
	skip := t.Skipf
	if os.Getenv("E2E_REQUIRE") == "1" {
		skip = t.Fatalf
	}
	if _, err := exec.LookPath("nft"); err != nil {
		skip("e2e/setup.sh installs nft: %v", err)
	}
	runtime.LockOSThread() // and not unlocked: the thread ends with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		skip("no right to make a network namespace: %v", err)
	}
	command(t, "ip", "link", "set", "lo", "up")
}

func command(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %q: %v: %s", name, args, err, out)
	}
}

// streams is a server all of whose streams of events are open, over TLS.
type streams struct {
	*site
	socket string
	bus    *event.Bus
}

// fill opens them. control, if not nil, is for the sockets of the clients.
func fill(t *testing.T, control func(string, string, syscall.RawConn) error) *streams {
	t.Helper()
	f := new(streams)
	cert, key := certificate(t, "edge1.example.com")
	f.site = newSite(t, &backend{}, func(c *admin.Config, a *admin.AccessConfig) {
		f.socket, f.bus, a.Certificate, a.Key = c.Socket, c.Events, cert, key
	})
	d := tls.Dialer{NetDialer: &net.Dialer{Control: control}, Config: &tls.Config{InsecureSkipVerify: true}} // whose it is, is not what is asked here
	for range 16 {
		c, err := d.DialContext(context.Background(), "tcp", f.addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.(*tls.Conn).NetConn().Close() })
		fmt.Fprintf(c, "GET /v1/events HTTP/1.1\r\nHost: %s\r\n%s\r\n\r\n", f.addr, bearer(f.read))
		head, err := bufio.NewReaderSize(c, 16).ReadString('\n')
		if err != nil || !strings.Contains(head, "200 OK") {
			t.Fatalf("%q, %v", head, err)
		}
	}
	if code := f.one(t); code != http.StatusTooManyRequests {
		t.Fatalf("one too many: %d", code)
	}
	return f
}

// one asks for one more stream, and closes it if it gets one.
func (f *streams) one(t *testing.T) int {
	t.Helper()
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", f.socket)
	}}}
	res, err := c.Get("http://sipward/v1/events")
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	return res.StatusCode
}

// empties wants room for a stream within a minute and a half; the kernel alone would take a
// quarter of an hour. meanwhile is called again and again.
func (f *streams) empties(t *testing.T, meanwhile func()) {
	t.Helper()
	began := time.Now()
	for f.one(t) != http.StatusOK {
		if time.Since(began) > 90*time.Second {
			t.Fatal("there is no room yet")
		}
		meanwhile()
		time.Sleep(50 * time.Millisecond)
	}
	t.Logf("there is room after %s", time.Since(began).Round(time.Second))
}

// TestVanishedClients: who went away without a word, as a laptop does, keeps no stream.
func TestVanishedClients(t *testing.T) {
	t.Parallel()
	apart(t)
	f := fill(t, nil)
	command(t, "nft", "add table inet lost; add chain inet lost in { type filter hook input priority 0; }; add rule inet lost in meta l4proto tcp drop")
	f.bus.Publish(&event.Event{}) // sooner than the comment that comes when nothing happens
	f.empties(t, func() {})
}

// TestClientsWithoutRoom: who is there and reads nothing keeps no stream either.
func TestClientsWithoutRoom(t *testing.T) {
	t.Parallel()
	f := fill(t, func(_, _ string, c syscall.RawConn) error {
		var failed error
		err := c.Control(func(fd uintptr) { failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 4096) })
		return errors.Join(err, failed)
	})
	f.empties(t, func() {
		for range 40 {
			f.bus.Publish(&event.Event{})
		}
	})
}
