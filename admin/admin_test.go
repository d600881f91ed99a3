package admin_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sipward/admin"
	"sipward/admin/logtest"
	"sipward/listsync/kernel"
	"sipward/notify"
	"sipward/policy/ban"
	"sipward/policy/event"
	"sipward/report"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// backend remembers what it was asked.
type backend struct {
	mu    sync.Mutex
	asked []string
	by    admin.Caller
	err   error
}

var _ admin.Backend = (*backend)(nil)

func (b *backend) note(by admin.Caller, words ...string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asked = append(b.asked, strings.Join(words, " "))
	b.by = by
	return b.err
}

func (b *backend) last() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.asked) == 0 {
		return ""
	}
	return b.asked[len(b.asked)-1]
}

func (b *backend) Status() admin.Status { return fullStatus() }

func (b *backend) Metrics() admin.Metrics {
	return admin.Metrics{
		Status:     fullStatus(),
		Messages:   []admin.MessageCount{{Direction: "from-outside", Method: "INVITE", Verdict: "drop", Reason: "scanner", Count: 3}},
		Others:     map[string]uint64{"tftp-limit": 4},
		UDPLatency: admin.Latency{Bounds: []time.Duration{time.Microsecond, time.Millisecond}, Counts: []uint64{1, 2, 3}, Sum: time.Second},
		QueueFill:  0.5, EventsLost: 1,
	}
}

func (b *backend) Reload() (admin.Reloaded, error) {
	return admin.Reloaded{Changed: []string{"x"}}, b.note(admin.Caller{}, "reload")
}

// Bans has two pages.
func (b *backend) Bans(q admin.BanQuery) (admin.BanPage, error) {
	p := admin.BanPage{Bans: []admin.Ban{{Prefix: netip.MustParsePrefix("192.0.2.1/32"), Kind: "manual"}}, Total: 2}
	if q.After.IsZero() {
		p.Next = admin.BanCursor{Start: 7, Prefix: p.Bans[0].Prefix}.String()
	}
	return p, b.note(admin.Caller{}, "bans", fmt.Sprintf("%+v", q))
}

func (b *backend) Ban(q admin.BanRequest, by admin.Caller) (admin.Banned, error) {
	return admin.Banned{Ban: admin.Ban{Comment: q.Reason}}, b.note(by, "ban", q.Address, q.For)
}

func (b *backend) Quarantines() ([]admin.Quarantine, error) {
	return []admin.Quarantine{{Account: "1001@example.com"}}, b.note(admin.Caller{}, "quarantines")
}

func (b *backend) Unban(address string) (admin.Unbanned, error) {
	return admin.Unbanned{Forgotten: 3}, b.note(admin.Caller{}, "unban", address)
}

func (b *backend) Entries(l admin.List) ([]admin.Entry, error) {
	return []admin.Entry{{Origin: string(l)}}, b.note(admin.Caller{}, "entries", string(l))
}

func (b *backend) AddEntry(l admin.List, q admin.EntryRequest, by admin.Caller) (admin.EntryChange, error) {
	return admin.EntryChange{Entry: admin.Entry{Comment: q.Comment}}, b.note(by, "add", string(l), q.Address)
}

func (b *backend) RemoveEntry(l admin.List, address string) (admin.EntryChange, error) {
	return admin.EntryChange{}, b.note(admin.Caller{}, "remove", string(l), address)
}

func (b *backend) Explain(address string) (admin.Explanation, error) {
	return admin.Explanation{Standing: "stranger"}, b.note(admin.Caller{}, "explain", address)
}

func (b *backend) Report(_ context.Context, q *report.Query) (*report.Report, error) {
	return &report.Report{By: q.By, Lost: 5}, b.note(admin.Caller{}, "report", strings.Join(q.By, ","))
}

func (b *backend) Kernel(context.Context) kernel.Status { return kernel.Status{Strangers: 7} }

func (b *backend) Notifications() notify.Status { return notify.Status{Attacks: 4} }

func (b *backend) MailReport(_ context.Context, q *report.Query, channel string) (admin.Mailed, error) {
	return admin.Mailed{Channel: channel, To: "ops@example.com"}, b.note(admin.Caller{}, "report --mail", channel, strings.Join(q.By, ","))
}

func (b *backend) TestNotification(_ context.Context, channel string) (notify.Tested, error) {
	return notify.Tested{Type: "smtp"}, b.note(admin.Caller{}, "notify test", channel)
}

func (b *backend) SyncKernel(context.Context) (kernel.Status, error) {
	return kernel.Status{Resyncs: 3}, b.note(admin.Caller{}, "kernel sync")
}

func (b *backend) ClearKernel(context.Context) (kernel.Status, error) {
	return kernel.Status{Reason: "cleared"}, b.note(admin.Caller{}, "kernel clear")
}

// config is that of a server on a socket of its own, with an empty ban table.
func config(t *testing.T, b admin.Backend, log *logtest.Buffer) admin.Config {
	t.Helper()
	bans, err := ban.New(ban.Config{}, time.Now().UnixNano())
	if err != nil {
		t.Fatal(err)
	}
	return admin.Config{
		Socket: filepath.Join(t.TempDir(), "run", "control.sock"), Mode: 0o660, Backend: b,
		Events: new(event.Bus), Bans: bans, Log: slog.New(slog.NewTextHandler(log, nil)),
	}
}

// run runs a server until the test ends.
func run(t *testing.T, s *admin.Server) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func serve(t *testing.T, b admin.Backend) (socket string, log *logtest.Buffer) {
	t.Helper()
	log = new(logtest.Buffer)
	cfg := config(t, b, log)
	s, err := admin.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	run(t, s)
	return cfg.Socket, log
}

// ask sends a request as any program may.
func ask(t *testing.T, socket, method, target, body string) (*http.Response, string) {
	t.Helper()
	c := http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}
	req, err := http.NewRequestWithContext(t.Context(), method, "http://sipward"+target, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	res, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(text)
}

func TestEveryPath(t *testing.T) {
	b := &backend{}
	socket, _ := serve(t, b)
	for _, c := range []struct{ method, target, body, asked, answer string }{
		{"GET", "/v1/status", "", "", `"pid":7`},
		{"POST", "/v1/reload", "", "reload", `"changed":["x"]`},
		{"GET", "/v1/lists/allow", "", "entries allow", `"origin":"allow"`},
		{"GET", "/v1/lists/deny", "", "entries deny", `"origin":"deny"`},
		{"GET", "/v1/lists/bans", "", "bans {Limit:0 Latest:false After: Match: Prefix:invalid Prefix Reasons:[]}", `"prefix":"192.0.2.1/32"`},
		{"GET", "/v1/lists/bans?limit=20&order=latest&cursor=9_2001:db8::%2F64&match=rude", "", "bans {Limit:20 Latest:true After:9_2001:db8::/64 Match:rude Prefix:invalid Prefix Reasons:[]}", `"total":2`},
		{"GET", "/v1/lists/bans?prefix=192.0.2.0/24&reason=register,ban", "", "bans {Limit:0 Latest:false After: Match: Prefix:192.0.2.0/24 Reasons:[register ban]}", `"total":2`},
		{"GET", "/v1/lists/quarantines", "", "quarantines", `"account":"1001@example.com"`},
		{"POST", "/v1/report?by=reason&last=1h&channel=ops", "", "report --mail ops reason", `"to":"ops@example.com"`},
		{"POST", "/v1/ban", `{"address":"192.0.2.1","for":"1h","reason":"why"}`, "ban 192.0.2.1 1h", `"comment":"why"`},
		{"DELETE", "/v1/ban?address=192.0.2.0%2F24", "", "unban 192.0.2.0/24", `"forgotten":3`},
		{"POST", "/v1/allow", `{"address":"192.0.2.1","comment":"office"}`, "add allow 192.0.2.1", `"comment":"office"`},
		{"DELETE", "/v1/allow?address=192.0.2.1", "", "remove allow 192.0.2.1", `"entry":`},
		{"POST", "/v1/deny", ` {"address":"192.0.2.1","force":true} ` + "\n", "add deny 192.0.2.1", `"entry":`},
		{"DELETE", "/v1/deny?address=192.0.2.1", "", "remove deny 192.0.2.1", `"entry":`},
		{"GET", "/v1/explain?address=2001:db8::1", "", "explain 2001:db8::1", `"standing":"stranger"`},
		{"GET", "/v1/report?by=source,reason", "", "report source,reason", `"lost":5`},
		{"GET", "/v1/report?by=reason&format=csv", "", "report reason", "row,reason,messages,"},
	} {
		res, answer := ask(t, socket, c.method, c.target, c.body)
		if res.StatusCode != http.StatusOK || !strings.Contains(answer, c.answer) || (res.Header.Get("Content-Type") != "application/json") != strings.Contains(c.target, "format=csv") {
			t.Errorf("%s %s: %s, %s, want %s", c.method, c.target, res.Status, answer, c.answer)
		}
		if c.asked != "" && b.last() != c.asked {
			t.Errorf("%s %s asked for %q, want %q", c.method, c.target, b.last(), c.asked)
		}
	}
}

// TestWrongRequests wants an answer that says what to do, and that nothing is done.
func TestWrongRequests(t *testing.T) {
	b := &backend{}
	socket, _ := serve(t, b)
	for _, c := range []struct {
		method, target, body string
		status               int
		answer               string
	}{
		{"GET", "/", "", 404, "docs/api.md"},
		{"GET", "/v2/status", "", 404, "/v2/status"},
		{"GET", "/v1/lists/none", "", 404, "/v1/lists/none"},
		{"POST", "/v1/status", "{}", 405, "use GET"},
		{"GET", "/v1/ban?address=192.0.2.1", "", 405, "use DELETE, POST"},
		{"PUT", "/v1/allow", "{}", 405, "use DELETE, POST"},
		{"POST", "/v1/explain?address=192.0.2.1", "", 405, "use GET"},
		{"POST", "/v1/ban", "", 400, "the body is empty"},
		{"POST", "/v1/ban", "192.0.2.1", 400, "send a JSON object"},
		{"POST", "/v1/ban", `{"address":"192.0.2.1"`, 400, "unexpected EOF"},
		{"POST", "/v1/ban", `{"adress":"192.0.2.1"}`, 400, "adress"},
		{"POST", "/v1/ban", `{"address":1}`, 400, "address"},
		{"POST", "/v1/ban", `{"address":"192.0.2.1"}{"address":"192.0.2.2"}`, 400, "something follows"},
		{"POST", "/v1/ban", `["192.0.2.1"]`, 400, "send a JSON object"},
		{"POST", "/v1/allow", `{"address":"192.0.2.1","for":"1h"}`, 400, "for"},
		{"POST", "/v1/deny", `{"comment":"` + strings.Repeat("x", 70<<10) + `"}`, 413, "larger than 65536 bytes"},
		{"DELETE", "/v1/ban", "", 400, "/v1/ban?address="},
		{"DELETE", "/v1/ban?address=", "", 400, "/v1/ban?address="},
		{"DELETE", "/v1/ban?address=192.0.2.1&address=192.0.2.2", "", 400, "one parameter"},
		{"DELETE", "/v1/allow?address=192.0.2.1&force=1", "", 400, "one parameter"},
		{"GET", "/v1/explain?address=" + strings.Repeat("1", 200), "", 400, "at most 100"},
		{"GET", "/v1/explain?adress=192.0.2.1", "", 400, "/v1/explain?address="},
		{"GET", "/v1/lists/bans?limit=5001", "", 400, "from 1 to 5000"},
		{"GET", "/v1/lists/bans?limit=0", "", 400, "from 1 to 5000"},
		{"GET", "/v1/lists/bans?cursor=192.0.2.1", "", 400, "next of the page before"},
		{"GET", "/v1/lists/bans?order=best", "", 400, "latest and oldest"},
		{"GET", "/v1/lists/bans?page=2", "", 400, "no parameter"},
		{"GET", "/v1/lists/bans?limit=1&limit=2", "", 400, "once"},
		{"GET", "/v1/lists/bans?match=" + strings.Repeat("x", 101), "", 400, "at most 100"},
		{"POST", "/v1/report?last=1h", "", 400, "name of a channel"},
		{"POST", "/v1/report?channel=ops&by=nothing", "", 400, "nothing"},
	} {
		res, answer := ask(t, socket, c.method, c.target, c.body)
		var failure struct{ Error string }
		if err := json.Unmarshal([]byte(answer), &failure); err != nil || res.StatusCode != c.status || !strings.Contains(failure.Error, c.answer) {
			t.Errorf("%s %s: %s %s, want %d and %q", c.method, c.target, res.Status, answer, c.status, c.answer)
		}
		if (res.Header.Get("Allow") != "") != (c.status == 405) {
			t.Errorf("%s %s: Allow: %s", c.method, c.target, res.Header.Get("Allow"))
		}
	}
	if b.last() != "" {
		t.Errorf("the backend was asked to %s", b.last())
	}
}

func TestErrors(t *testing.T) {
	b := &backend{}
	socket, _ := serve(t, b)
	for _, c := range []struct {
		err    error
		status int
	}{
		{&admin.Refusal{Reason: "not this one"}, 422},
		{&admin.Refusal{Status: 404, Reason: "none"}, 404},
		{errors.New("disk full"), 500},
	} {
		b.err = c.err
		if res, answer := ask(t, socket, "POST", "/v1/deny", `{"address":"192.0.2.1"}`); res.StatusCode != c.status || !strings.Contains(answer, c.err.Error()) {
			t.Errorf("%v gives %s %s", c.err, res.Status, answer)
		}
		_, err := admin.NewClient(socket).AddEntry(t.Context(), admin.Deny, admin.EntryRequest{})
		var r *admin.Refusal
		if !errors.As(err, &r) || r.Status != c.status || r.Reason != c.err.Error() {
			t.Errorf("%v comes to the client as %#v", c.err, err)
		}
	}
}

// TestWhoAsks: the kernel says who has connected, and each change is logged with it.
func TestWhoAsks(t *testing.T) {
	b := &backend{}
	socket, log := serve(t, b)
	c := admin.NewClient(socket)
	if _, err := c.Ban(t.Context(), admin.BanRequest{Address: "192.0.2.1\nfake=1"}); err != nil {
		t.Fatal(err)
	}
	by := b.by
	if by.Peer == nil || by.Peer.PID != int32(os.Getpid()) || int(by.Peer.UID) != os.Getuid() || by.Peer.User == "" || by.Role != admin.Write {
		t.Errorf("asked by %+v", by)
	}
	b.err = errors.New("disk full")
	if _, err := c.Unban(t.Context(), "192.0.2.1"); err == nil {
		t.Error("no error")
	}
	lines := strings.Split(strings.TrimSpace(log.String()), "\n")
	if len(lines) != 2 || !strings.Contains(lines[0], "command=ban") || !strings.Contains(lines[0], by.String()) ||
		!strings.Contains(lines[1], "command=unban") || !strings.Contains(lines[1], "disk full") || !strings.Contains(lines[1], "level=WARN") {
		t.Errorf("the log is\n%s", log)
	}
}

func TestClient(t *testing.T) {
	b := &backend{}
	socket, _ := serve(t, b)
	c, ctx := admin.NewClient(socket), t.Context()
	s, err := c.Status(ctx)
	if err != nil || s.PID != 7 {
		t.Errorf("status %+v, %v", s, err)
	}
	if l, err := c.Entries(ctx, admin.Deny); err != nil || len(l) != 1 || l[0].Origin != "deny" {
		t.Errorf("entries %+v, %v", l, err)
	}
	if l, err := c.Bans(ctx, admin.BanQuery{}); err != nil || len(l) != 2 || l[0].Kind != "manual" || b.last() != "bans {Limit:5000 Latest:false After:7_192.0.2.1/32 Match: Prefix:invalid Prefix Reasons:[]}" {
		t.Errorf("bans %+v, %v", l, err)
	}
	if u, err := c.Unban(ctx, "2001:db8::/64"); err != nil || u.Forgotten != 3 || b.last() != "unban 2001:db8::/64" {
		t.Errorf("unban %+v, %v, %s", u, err, b.last())
	}
	if x, err := c.Explain(ctx, "192.0.2.1"); err != nil || x.Standing != "stranger" {
		t.Errorf("explain %+v, %v", x, err)
	}
	if _, err := c.RemoveEntry(ctx, admin.Allow, "192.0.2.1"); err != nil || b.last() != "remove allow 192.0.2.1" {
		t.Errorf("remove: %v, %s", err, b.last())
	}
	if k, err := c.Kernel(ctx); err != nil || k.Strangers != 7 {
		t.Errorf("kernel %+v, %v", k, err)
	}
	if k, err := c.SyncKernel(ctx); err != nil || k.Resyncs != 3 || b.last() != "kernel sync" {
		t.Errorf("kernel sync %+v, %v, %s", k, err, b.last())
	}
	if k, err := c.ClearKernel(ctx); err != nil || k.Reason != "cleared" || b.last() != "kernel clear" {
		t.Errorf("kernel clear %+v, %v, %s", k, err, b.last())
	}
	if s, err := c.Notifications(ctx); err != nil || s.Attacks != 4 {
		t.Errorf("notifications %+v, %v", s, err)
	}
	if d, err := c.TestNotification(ctx, "ops"); err != nil || d.Type != "smtp" || b.last() != "notify test ops" {
		t.Errorf("notify test %+v, %v, %s", d, err, b.last())
	}
	if d, err := c.MailReport(ctx, &report.Query{From: time.Now().Add(-time.Hour), To: time.Now(), By: []string{"source"}, Top: 1}, "ops"); err != nil || d.To != "ops@example.com" || b.last() != "report --mail ops source" {
		t.Errorf("report --mail %+v, %v, %s", d, err, b.last())
	}
	gone := admin.NewClient(filepath.Join(t.TempDir(), "none.sock"))
	if _, err := gone.Status(ctx); !errors.Is(err, admin.ErrUnreachable) {
		t.Errorf("no socket gives %v", err)
	}
}

// TestSocket: the mode is what was asked for, a stale socket is replaced, one in use
// or another file is not.
func TestSocket(t *testing.T) {
	socket, _ := serve(t, &backend{})
	if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	cfg := admin.Config{Socket: socket, Mode: 0o600, Backend: &backend{}, Log: slog.New(slog.DiscardHandler)}
	if _, err := admin.New(cfg); err == nil || !strings.Contains(err.Error(), "another sipward answers") {
		t.Errorf("a socket in use gives %v", err)
	}
	cfg.Socket = filepath.Join(t.TempDir(), "stale")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: cfg.Socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	s, err := admin.New(cfg)
	if err != nil {
		t.Fatalf("a stale socket: %v", err)
	}
	s.Close()
	if err := os.WriteFile(cfg.Socket, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := admin.New(cfg); err == nil || !strings.Contains(err.Error(), "is not a socket") {
		t.Errorf("another file gives %v", err)
	}
}

// TestDocumentation: docs/api.md lists each request, and no other.
func TestDocumentation(t *testing.T) {
	text, err := os.ReadFile("../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), "| request | body or parameter | answer |")
	table, _, _ = strings.Cut(table, "\n\n")
	var documented []string
	for _, m := range regexp.MustCompile("`([A-Z]+ /[a-z0-9/.]+)`").FindAllStringSubmatch(table, -1) {
		documented = append(documented, m[1])
	}
	slices.Sort(documented)
	if want := admin.Requests(); !slices.Equal(documented, want) {
		t.Errorf("documented are\n%q\nwant\n%q", documented, want)
	}
}
