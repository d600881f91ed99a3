package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"sipward/admin"
	"sipward/admin/logtest"
	"sipward/cmd/sipward/internal/demo/phone"
	"sipward/conf"
)

// browser is a headless Chromium with one page, and what it must not do.
type browser struct {
	t   *testing.T
	ctx context.Context

	mu       sync.Mutex
	requests []string
	broken   []string // errors of scripts, and what the page's policy forbade
}

// newBrowser starts one; the test is skipped where there is none. flags are beside those
// that every test needs.
func newBrowser(t *testing.T, flags ...chromedp.ExecAllocatorOption) *browser {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		if os.Getenv("E2E_REQUIRE") == "1" {
			t.Fatal("no chromium here, and E2E_REQUIRE=1 asks for every test")
		}
		t.Skip("no chromium here (e2e/setup.sh installs it)")
	}
	// Chromium leaves folders where TMPDIR is, beside its profile.
	opts := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.UserDataDir(t.TempDir()), chromedp.Env("TMPDIR="+t.TempDir()), chromedp.NoSandbox,
		chromedp.DisableGPU, chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true), chromedp.Flag("lang", "en"), chromedp.WindowSize(1280, 900))
	opts = append(opts, flags...)
	alloc, cancel := chromedp.NewExecAllocator(t.Context(), opts...)
	ctx, cancelPage := chromedp.NewContext(alloc)
	t.Cleanup(func() {
		_ = chromedp.Cancel(ctx) // what is wrong with its end is no concern of the test
		cancelPage()
		cancel()
	})
	b := &browser{t: t, ctx: ctx}
	if err := chromedp.Listen(ctx, b.note); err != nil {
		t.Fatal(err)
	}
	protocol(b, network.Enable, network.EnableParams{})
	protocol(b, runtime.Enable, cdp.Empty{})
	return b
}

func (b *browser) note(ev any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch ev := ev.(type) {
	case *network.EventRequestWillBeSent:
		b.requests = append(b.requests, ev.Request.URL)
	case *runtime.EventExceptionThrown:
		b.broken = append(b.broken, fmt.Sprintf("%+v", ev.ExceptionDetails))
	case *runtime.EventConsoleAPICalled:
		if ev.Type == runtime.ConsoleAPICalledTypeError {
			b.broken = append(b.broken, fmt.Sprintf("console: %s", ev.Args[0].Value))
		}
	case *page.EventJavascriptDialogOpening:
		b.broken = append(b.broken, "a dialog: "+ev.Message)
	}
}

// patience is how long something may take that should be quick.
const patience = 30 * time.Second

// run fails the test with what the page shows when something does not happen in time.
func run[T any](b *browser, a chromedp.Action[T]) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	v, err := chromedp.Run(ctx, a)
	if err != nil {
		b.fail(err)
	}
	return v
}

// protocol sends a command of the protocol that browsers are led by.
func protocol[P, R any](b *browser, c cdp.Command[P, R], params P) R {
	b.t.Helper()
	return run(b, func(ctx context.Context, t *chromedp.Target) (R, error) { return cdp.Call(ctx, t, c, params) })
}

// fail ends the test with what the page shows.
func (b *browser) fail(why error) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	text, err := chromedp.Run(ctx, chromedp.Evaluate[string]("location.href + '\\n' + document.body.innerText"))
	b.mu.Lock()
	defer b.mu.Unlock()
	b.t.Fatalf("%v\n%s\nthe page shows (%v):\n%s", why, strings.Join(b.broken, "\n"), err, text)
}

// eval returns the value of an expression, or of its promise.
func eval[T any](b *browser, expression string) T {
	b.t.Helper()
	return run(b, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
}

// await waits until an expression is true.
func (b *browser) await(expression string) {
	b.t.Helper()
	for deadline := time.Now().Add(patience); !eval[bool](b, "Boolean("+expression+")"); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			b.fail(fmt.Errorf("this does not become true: %s", expression))
		}
	}
}

func (b *browser) open(url string) {
	b.t.Helper()
	run(b, chromedp.Navigate(url))
}

// shows waits until the page shows a text.
func (b *browser) shows(text string) {
	b.t.Helper()
	b.await("document.body.innerText.includes(" + quoted(text) + ")")
}

func quoted(text string) string {
	b, _ := json.Marshal(text) // a string always has one
	return string(b)
}

// click clicks on the one button or link with this name.
func (b *browser) click(name string) {
	b.t.Helper()
	find := fmt.Sprintf(`[...(document.querySelector("dialog") ?? document).querySelectorAll("button, a")].filter((e) => (e.getAttribute("aria-label") ?? e.textContent).trim() === %s)`, quoted(name))
	b.await(find + ".length === 1")
	eval[chromedp.Void](b, find+"[0].click()")
}

// shot keeps a picture for people when E2E_SHOTS names a folder.
func (b *browser) shot(name string) {
	b.t.Helper()
	dir := os.Getenv("E2E_SHOTS")
	if dir == "" {
		return
	}
	png := run(b, chromedp.FullScreenshot(100))
	if err := os.WriteFile(filepath.Join(dir, name+".png"), png, 0o644); err != nil {
		b.t.Error(err)
	}
}

// width makes the window that wide.
func (b *browser) width(n int64) {
	b.t.Helper()
	run(b, chromedp.EmulateViewport(n, 800))
}

func (b *browser) theme(name string) {
	b.t.Helper()
	protocol(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: name}}})
}

// onlyAsks fails the test if the page has asked anybody but its own server, or broke.
func (b *browser) onlyAsks(origin string) {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	asked := 0
	for _, r := range b.requests {
		switch {
		case strings.HasPrefix(r, origin+"/"):
			asked++
		case r != "about:blank":
			b.t.Errorf("the page asked for %s", r)
		}
	}
	if asked < 10 {
		b.t.Errorf("only %d requests were seen", asked)
	}
	for _, e := range b.broken {
		b.t.Errorf("in the browser: %s", e)
	}
}

// stage is a running demonstration without its script: a real PBX, a real sipward.
type stage struct {
	link, origin, token string
	socket              string
	edge                netip.AddrPort
	stop                func() // ends it
}

var (
	linkLine   = regexp.MustCompile(`(http://[0-9.:]+)/#login=[A-Z0-9]+`)
	tokenLine  = regexp.MustCompile(`with the token (\S+)`)
	socketLine = regexp.MustCompile(socketVariable + `=(\S+)`)
	edgeLine   = regexp.MustCompile(`in front of it on ([0-9.:]+)`)
)

func startStage(t *testing.T) stage {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	out := new(logtest.Buffer)
	root := newRoot()
	root.SetOut(out)
	root.SetErr(out)
	done := make(chan int, 1)
	go func() { done <- execute(ctx, root, []string{"demo", "--no-script"}) }()
	t.Cleanup(func() {
		cancel()
		if code := <-done; code != 0 {
			t.Errorf("the demo ended with %d:\n%s", code, out)
		}
	})
	out.Await(t, "Now you.", time.Minute)
	link := linkLine.FindStringSubmatch(out.String())
	token, edge := tokenLine.FindStringSubmatch(out.String()), edgeLine.FindStringSubmatch(out.String())
	socket := socketLine.FindStringSubmatch(out.String())
	if link == nil || token == nil || edge == nil || socket == nil {
		t.Fatalf("no link, token or address in\n%s", out)
	}
	return stage{link: link[0], origin: link[1], token: token[1], socket: socket[1], edge: netip.MustParseAddrPort(edge[1]), stop: cancel}
}

// guess has somebody guess the password of 1001 until he is no longer answered.
func guess(t *testing.T, from string, edge netip.AddrPort) {
	t.Helper()
	p, err := phone.Listen(phone.Config{Local: netip.MustParseAddr(from), Server: edge, User: "1001", Password: "wrong"})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for range 30 {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second) // four times unanswered
		_, err := p.Register(ctx, time.Minute)
		cancel()
		if err != nil {
			return
		}
	}
	t.Fatal("he is still answered after 30 guesses")
}

// say sends one message as it stands, over UDP.
func (s stage) say(t *testing.T, from, text string) {
	t.Helper()
	c, err := net.DialUDP("udp", &net.UDPAddr{IP: net.ParseIP(from)}, net.UDPAddrFromAddrPort(s.edge))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	text = strings.NewReplacer("\n", "\r\n", "EDGE", s.edge.String(), "HERE", c.LocalAddr().String()).Replace(text)
	if _, err := c.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
}

// hostile is a message of somebody who thinks of who will read about it.
const hostile = `OPTIONS sip:100@EDGE SIP/2.0
Via: SIP/2.0/UDP HERE;branch=z9hG4bKhostile%[1]d;rport
Max-Forwards: 70
From: "<script>window.hacked=1</script>\"'` + "\u202e" + `evil" <sip:1%[1]d00'%%22@EDGE>;tag=h%[1]d
To: "<svg/onload=window.hacked=3>" <sip:100@EDGE>
Call-ID: hostile%[1]d<b>
CSeq: 1 OPTIONS
Contact: <sip:100@HERE>
User-Agent: friendly-scanner <script>window.hacked=4</script><img src=http://203.0.113.9/x onerror=window.hacked=5>` + "\x1b]0;x\x07\xe4" + `
Content-Length: 0

`

// TestDashboard: a newcomer follows the link of the demonstration, sees a ban appear while
// somebody guesses passwords, reads why, lifts it, and asks for a report.
func TestDashboard(t *testing.T) {
	b := newBrowser(t)
	s := startStage(t)
	b.open(s.link)
	b.shows("Good standing")
	if at := eval[string](b, "location.href"); at != s.origin+"/" {
		t.Errorf("the code stays in the address bar: %s", at)
	}
	b.checkCookie()
	if n := eval[int](b, "localStorage.length + document.cookie.length"); n != 0 {
		t.Error("scripts can read something that outlives the page")
	}

	b.click("Bans")
	b.shows("Nobody is banned.")
	guess(t, "127.0.0.3", s.edge)
	b.shows("127.0.0.3") // nobody has touched the page
	b.shows("left")
	b.shot("bans")
	b.click("Why is 127.0.0.3 banned?")
	b.shows("Its packets are dropped")
	b.shows("Evidence: the messages it is for")
	b.shows(`nonce="***"`)
	b.shot("source")
	b.click("Unban 127.0.0.3")
	b.shows("Lift the ban of 127.0.0.3?")
	b.shot("dialog")
	b.click("Lift the ban")
	b.shows("Its packets are let in")

	t.Run("hostile", func(t *testing.T) { b.showHostile(t, s) })
	t.Run("report", func(t *testing.T) { b.report(t) })
	t.Run("sections", func(t *testing.T) { b.sections(t) })
	t.Run("logout", func(t *testing.T) { b.logOut(t, s) })
	b.onlyAsks(s.origin)
}

// TestDashboardLeftAlone: a page whose sipward has ended says that what it shows is old.
func TestDashboardLeftAlone(t *testing.T) {
	b := newBrowser(t)
	s := startStage(t)
	b.open(s.link)
	b.shows("Good standing")
	for kernel, want := range map[string]bool{
		`{backend: "none", configured: "auto"}`: true, `{backend: "none", configured: "none"}`: true,
		`{backend: "none", configured: "ipset"}`: false, `{backend: "ipset", configured: "auto"}`: false,
	} {
		if got := eval[bool](b, `import("/ui/system.js").then((m) => m.mirrorOff(`+kernel+`))`); got != want {
			t.Errorf("the mirror %s is off: %t", kernel, got)
		}
	}
	s.stop()
	b.shows("What is shown is old: sipward does not answer.")
}

// checkCookie: no script and no other site gets at the session.
func (b *browser) checkCookie() {
	b.t.Helper()
	all := protocol(b, network.GetCookies, network.GetCookiesParams{}).Cookies
	if len(all) != 1 || !all[0].HTTPOnly || all[0].SameSite != network.CookieSameSiteStrict {
		b.t.Errorf("the cookies are %+v", all)
	}
}

// showHostile: what a stranger wrote is text and nothing else, wherever it is shown.
func (b *browser) showHostile(t *testing.T, s stage) {
	b.click("Live")
	for i := range 3 {
		s.say(t, "127.0.0.4", fmt.Sprintf(hostile, i))
		s.say(t, "127.0.0.6", strings.Replace(fmt.Sprintf(hostile, i), "evil", "\xff\xfe\x07\x1b[2J", 1))
	}
	b.shows("127.0.0.4")
	b.shows("127.0.0.6")
	b.shot("live")
	b.open(s.origin + "/#source/127.0.0.4")
	b.shows("friendly-scanner <script>window.hacked=4</script>")
	b.shows(`\"'\u{202e}evil" <sip:1000'%22@`)
	b.shot("hostile")
	b.open(s.origin + "/#source/" + url.PathEscape(`<img src=x onerror="window.hacked=6">`))
	b.shows("is not an address")
	for _, section := range []string{"Live", "Bans", "System"} {
		b.click(section)
		b.await(`document.querySelector("main h1") !== null`)
		if n := eval[int](b, `document.querySelectorAll("script").length * 100 + document.querySelectorAll("img, iframe, object, embed, main script").length`); n != 200 {
			t.Errorf("there are elements in %s that the page did not make (%d)", section, n)
		}
	}
	if eval[bool](b, `"hacked" in window`) {
		t.Error("a stranger's script ran")
	}
}

// report: by source, then one by one with a filter, then as a file.
func (b *browser) report(t *testing.T) {
	b.click("Reports")
	b.await(`document.querySelector("main table td a")?.textContent.startsWith("127.0.0.")`)
	b.shows("passed,")
	eval[chromedp.Void](b, `document.querySelector("[name=by]").value = "reason", document.querySelector("main details").open = true, document.querySelector("[name=source]").value = "127.0.0.4"`)
	b.click("Show")
	b.await(`[...document.querySelectorAll("main tbody tr")].some((r) => r.textContent.startsWith("scanner"))`)
	if rows := eval[string](b, `[...document.querySelectorAll("main tbody tr td:first-child")].map((r) => r.textContent).sort().join()`); rows != "ban,scanner" {
		t.Errorf("127.0.0.4 has the reasons %q", rows)
	}
	b.shot("report")
	for format, want := range map[string]string{"CSV": "row,reason,messages,", "JSON": `"by":`, "HTML": "<!doctype html>"} {
		file := eval[string](b, fmt.Sprintf(`fetch([...document.querySelectorAll("main a[download]")].find((a) => a.textContent === %q).href).then((r) => r.text())`, format))
		if !strings.Contains(strings.ToLower(file), want) || !strings.Contains(file, "scanner") {
			t.Errorf("as %s the report is\n%.300s", format, file)
		}
	}
	eval[chromedp.Void](b, `document.querySelector("[name=source]").value = "everywhere"`)
	b.click("Show")
	b.shows("everywhere")
	b.await(`document.querySelector("main .problem").textContent.includes("source")`)
}

// unnamed counts what a screen reader could not name, and controls that the keyboard does not reach.
const unnamed = `[...document.querySelectorAll("button, a[href], input, select, meter, svg[role=img], [role=region]")].filter((e) => {
	const name = e.getAttribute("aria-label") || e.textContent.trim() || [...(e.labels ?? [])].map((l) => l.textContent).join("");
	return e.checkVisibility() && (!name || (e.matches("button, a, input, select") && e.tabIndex < 0));
}).map((e) => e.outerHTML)`

// sections: each section in both themes and at the width of a phone.
func (b *browser) sections(t *testing.T) {
	for _, section := range []string{"Live", "Bans", "Source", "Lists", "Reports", "System"} {
		b.width(1280)
		b.click(section)
		b.await(`document.querySelector("main h1") !== null`)
		if bad := eval[[]string](b, unnamed); len(bad) > 0 {
			t.Errorf("in %s these have no name or cannot be reached: %q", section, bad)
		}
		for _, theme := range []string{"light", "dark"} {
			b.theme(theme)
			for _, w := range []int64{1280, 360} {
				b.width(w)
				if over := eval[int](b, "document.documentElement.scrollWidth"); over > int(w) {
					t.Errorf("%s is %d pixels wide on a screen of %d", section, over, w)
				}
				b.shot(fmt.Sprintf("%s-%s-%d", strings.ToLower(section), theme, w))
			}
		}
	}
	b.width(1280)
}

// logOut: afterwards neither the page nor the link shows anything; the token does.
func (b *browser) logOut(t *testing.T, s stage) {
	b.click("Log out")
	b.shows("The firewall in front of your PBX.")
	b.shot("login")
	if n := eval[int](b, `fetch("/v1/status").then((r) => r.status)`); n != 401 {
		t.Errorf("the status is answered %d after logging out", n)
	}
	b.open("about:blank")
	b.open(s.link)
	b.shows("This link has been used")
	run(b, chromedp.SendKeys(chromedp.CSS("#token"), "sipward_wrong\n"))
	b.shows("the token is not known")
	run(b, chromedp.SendKeys(chromedp.CSS("#token"), s.token+"\n")) // the wrong one is selected
	b.shows("Good standing")
}

// TestDashboardReadOnly: who may only see is offered nothing else, and is shut out when his
// token is removed.
func TestDashboardReadOnly(t *testing.T) {
	b := newBrowser(t)
	r := prepare(t, `notify: {channels: [{name: ops, type: smtp, server: "127.0.0.1:25", tls: none, from: sipward@example.com, to: [ops@example.com]}]}`)
	text, hash := admin.NewToken()
	known := conf.Token{Name: "guest", Role: conf.TokenRead, Hash: hash}
	at := fmt.Sprint("127.0.0.1:", freePort(t))
	r.write(strings.Replace(r.text(), "control: {", fmt.Sprintf("control: {listen: [%q], tokens: [%q], ", at, known), 1))
	r.begin()
	t.Cleanup(r.end)
	b.open("http://" + at + "/#bans")
	b.shows("The firewall in front of your PBX.")
	run(b, chromedp.SendKeys(chromedp.CSS("#token"), text+"\n"))
	b.shows("Nobody is banned.")
	b.shows("Read only")
	for _, section := range []string{"Bans", "Lists", "Reports"} {
		b.click(section)
		b.await(`document.querySelectorAll(".write").length > 0`)
		if n := eval[int](b, `[...document.querySelectorAll(".write")].filter((e) => e.checkVisibility()).length`); n != 0 {
			t.Errorf("%d buttons that would be refused are shown in %s", n, section)
		}
	}
	if status := eval[int](b, `fetch("/v1/ban", {method: "POST", body: '{"address": "192.0.2.9"}'}).then((r) => r.status)`); status != 403 {
		t.Errorf("a ban is answered %d", status)
	}
	if status := eval[int](b, `fetch("/v1/report?last=1h&channel=ops", {method: "POST"}).then((r) => r.status)`); status != 403 {
		t.Errorf("a report by mail is answered %d", status)
	}
	_, other := admin.NewToken()
	r.write(strings.Replace(r.text(), known.String(), conf.Token{Name: "other", Role: conf.TokenRead, Hash: other}.String(), 1))
	r.cli(0, []string{"reload"})
	b.shows("Your session has ended.")
	b.onlyAsks("http://" + at)
}
