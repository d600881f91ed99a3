package dashboard_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sipward/admin"
	"sipward/admin/dashboard"
)

func newDashboard(t *testing.T) *dashboard.Dashboard {
	t.Helper()
	d, err := dashboard.New(dashboard.NewSeries(func() map[string]uint64 { return nil }))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// serve asks the mounts as the control listener does, but for the caller's role.
func serve(d *dashboard.Dashboard, r *http.Request) *httptest.ResponseRecorder {
	mux := http.NewServeMux()
	for _, m := range d.Mounts() {
		mux.Handle(m.Pattern, m.Handler)
	}
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, r)
	return w
}

func TestFiles(t *testing.T) {
	d := newDashboard(t)
	page := serve(d, httptest.NewRequest("GET", "/", nil))
	if page.Code != 200 || !strings.Contains(page.Body.String(), "<title>sipward</title>") {
		t.Fatalf("the page is %d\n%s", page.Code, page.Body)
	}
	for _, m := range d.Mounts() {
		_, path, _ := strings.Cut(m.Pattern, " ")
		if path == "/ui/series" && m.Need != admin.Read {
			t.Error("everybody may see the counters")
		}
		if path == "/ui/series" || path == "/ui/link" {
			continue
		}
		w := serve(d, httptest.NewRequest("GET", strings.TrimSuffix(path, "{$}"), nil))
		policy := w.Header().Get("Content-Security-Policy")
		if w.Code != 200 || w.Body.Len() == 0 || !strings.Contains(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") {
			t.Errorf("%s: %d, %d bytes, policy %s", path, w.Code, w.Body.Len(), policy)
		}
		again := httptest.NewRequest("GET", strings.TrimSuffix(path, "{$}"), nil)
		again.Header.Set("If-None-Match", w.Header().Get("ETag"))
		if w := serve(d, again); w.Code != http.StatusNotModified || w.Body.Len() != 0 {
			t.Errorf("%s: what has not changed is answered %d with %d bytes", path, w.Code, w.Body.Len())
		}
	}
}

// TestNoMarkup: nothing on the page can turn a text into markup, and nothing names another
// server.
func TestNoMarkup(t *testing.T) {
	files, err := filepath.Glob("web/*")
	if err != nil || len(files) < 10 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, bad := range []string{"innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "DOMParser", "srcdoc", "javascript:", "style=", "onclick=", "@import", "https://"} {
			if strings.Contains(string(text), bad) {
				t.Errorf("%s has %s", f, bad)
			}
		}
		if rest := strings.ReplaceAll(string(text), "http://www.w3.org/2000/svg", ""); strings.Contains(rest, "http://") {
			t.Errorf("%s names another server", f)
		}
	}
}

func redeem(d *dashboard.Dashboard, code string) (int, string) {
	w := serve(d, httptest.NewRequest("POST", "/ui/link", strings.NewReader(fmt.Sprintf(`{"code":%q}`, code))))
	return w.Code, w.Body.String()
}

func TestLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDashboard(t)
		code := func(token string) string { return strings.TrimPrefix(d.Link(token), "/#login=") }
		first := code("one")
		if status, _ := redeem(d, first+"x"); status != 401 {
			t.Errorf("a wrong code is answered %d", status)
		}
		if status, body := redeem(d, first); status != 200 || !strings.Contains(body, `"token":"one"`) {
			t.Errorf("the code is answered %d %s", status, body)
		}
		if status, body := redeem(d, first); status != 401 || strings.Contains(body, "one") {
			t.Errorf("the second time it is answered %d %s", status, body)
		}
		late := code("late")
		time.Sleep(15*time.Minute + time.Second)
		if status, _ := redeem(d, late); status != 401 {
			t.Errorf("after a quarter of an hour it is answered %d", status)
		}
		var all []string
		for i := range 20 {
			all = append(all, code(strconv.Itoa(i)))
			time.Sleep(time.Second)
		}
		good := 0
		for _, c := range all {
			if status, _ := redeem(d, c); status == 200 {
				good++
			}
		}
		if good != 16 {
			t.Errorf("%d links are good, want the latest 16", good)
		}
		if status, _ := redeem(d, strings.Repeat("x", 5000)); status != 400 {
			t.Errorf("a large body is answered %d", status)
		}
	})
}

type series struct {
	StepSeconds int `json:"step_seconds"`
	Points      []struct {
		End    time.Time
		Counts map[string]uint64
	}
}

// TestSeries runs for a day and a half: what came in each step, no more than is kept, and a
// counter that starts anew.
func TestSeries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		s := dashboard.NewSeries(func() map[string]uint64 {
			n := uint64(time.Since(began) / time.Second)
			return map[string]uint64{"pass": 100 + 2*n, "ban": n}
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		get := func(span string) (v series) {
			w := httptest.NewRecorder()
			s.ServeHTTP(w, httptest.NewRequest("GET", "/ui/series?span="+span, nil))
			if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil || w.Code != 200 {
				t.Fatal(span, w.Code, err)
			}
			return v
		}
		time.Sleep(2 * time.Second)
		if v := get("15m"); len(v.Points) != 0 {
			t.Errorf("after two seconds there are %d points", len(v.Points))
		}
		time.Sleep(36 * time.Hour)
		for span, want := range map[string]struct{ points, step int }{"15m": {180, 5}, "1h": {720, 5}, "24h": {1440, 60}} {
			v := get(span)
			if len(v.Points) != want.points || v.StepSeconds != want.step {
				t.Errorf("%s: %d points of %d s, want %d of %d s", span, len(v.Points), v.StepSeconds, want.points, want.step)
			}
			for i, p := range v.Points {
				if p.Counts["pass"] != uint64(2*want.step) || p.Counts["ban"] != uint64(want.step) {
					t.Fatalf("%s: point %d counts %v", span, i, p.Counts)
				}
				if i > 0 && p.End.Sub(v.Points[i-1].End) != time.Duration(want.step)*time.Second {
					t.Fatalf("%s: point %d is %v after the one before", span, i, p.End.Sub(v.Points[i-1].End))
				}
			}
		}
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest("GET", "/ui/series?span=1y", nil))
		if w.Code != 400 {
			t.Errorf("a year is answered %d", w.Code)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

var (
	ruleForm  = regexp.MustCompile(`(?s)(:root[^{]*)\{([^{}]*)\}`)
	colorForm = regexp.MustCompile(`--([a-z-]+): (#[0-9a-f]{3,6})`)
)

// TestContrast computes WCAG 2.2's contrast (SC 1.4.3) of text on what it stands on, and of
// the charts' colours on panels (SC 1.4.11), in each theme.
func TestContrast(t *testing.T) {
	css, err := os.ReadFile("web/app.css")
	if err != nil {
		t.Fatal(err)
	}
	themes := ruleForm.FindAllStringSubmatch(string(css), -1)
	if len(themes) != 3 {
		t.Fatalf("%d themes", len(themes))
	}
	if dark, auto := strings.Join(strings.Fields(themes[1][2]), " "), strings.Join(strings.Fields(themes[2][2]), " "); dark != auto {
		t.Errorf("the dark theme is not the same by choice and by the system:\n%s\n%s", dark, auto)
	}
	for _, theme := range themes {
		colors := map[string]string{}
		for _, c := range colorForm.FindAllStringSubmatch(theme[2], -1) {
			colors[c[1]] = c[2]
		}
		check := func(front, back string, least float64) {
			if c := contrast(t, colors[front], colors[back]); c < least {
				t.Errorf("%s: %s on %s has a contrast of %.2f, want %.1f", strings.TrimSpace(theme[1]), front, back, c, least)
			}
		}
		for _, back := range []string{"bg", "panel", "sunk"} {
			for _, front := range []string{"text", "muted", "accent", "good", "bad", "warn"} {
				check(front, back, 4.5)
			}
		}
		check("text", "bad-bg", 4.5)
		check("bad", "bad-bg", 4.5)
		check("on-accent", "accent", 4.5)
		check("panel", "bad", 4.5)
		for _, c := range []string{"passed", "banned", "flood", "guards", "malformed", "other"} {
			check("c-"+c, "panel", 3)
		}
	}
}

func contrast(t *testing.T, a, b string) float64 {
	t.Helper()
	x, y := luminance(t, a), luminance(t, b)
	return (max(x, y) + 0.05) / (min(x, y) + 0.05)
}

func luminance(t *testing.T, color string) (sum float64) {
	t.Helper()
	digits := strings.TrimPrefix(color, "#")
	if len(digits) == 3 {
		digits = strings.Join([]string{digits[:1], digits[:1], digits[1:2], digits[1:2], digits[2:], digits[2:]}, "")
	}
	n, err := strconv.ParseUint(digits, 16, 32)
	if err != nil {
		t.Fatalf("%q is no colour", color)
	}
	for i, weight := range []float64{0.2126, 0.7152, 0.0722} {
		c := float64(n>>(16-8*i)&0xff) / 255
		if c <= 0.04045 {
			c /= 12.92
		} else {
			c = math.Pow((c+0.055)/1.055, 2.4)
		}
		sum += weight * c
	}
	return sum
}
