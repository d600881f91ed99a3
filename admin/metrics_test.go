package admin_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"sipward/admin"
)

// TestMetricNames holds names and help to what Prometheus wants of them.
func TestMetricNames(t *testing.T) {
	reg := prometheus.NewRegistry()
	reg.MustRegister(admin.NewCollector(&backend{}))
	problems, err := testutil.GatherAndLint(reg)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	gathered, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range gathered {
		names = append(names, f.GetName())
		for _, m := range f.Metric {
			for _, l := range m.Label {
				if _, err := netip.ParseAddr(l.GetValue()); err == nil {
					t.Errorf("%s has an address as the label %s", f.GetName(), l.GetName())
				}
				if _, err := netip.ParseAddrPort(l.GetValue()); err == nil {
					t.Errorf("%s has an address as the label %s", f.GetName(), l.GetName())
				}
			}
		}
	}
	want := slices.Sorted(maps.Keys(admin.Families()))
	if !slices.Equal(names, want) {
		t.Errorf("exported are\n%q\nwant\n%q", names, want)
	}
}

// TestScrape asks as Prometheus does.
func TestScrape(t *testing.T) {
	s := newSite(t, &backend{}, nil)
	if res, _ := s.send(t, "GET", "/metrics", ""); res.StatusCode != 401 {
		t.Errorf("without a token: %s", res.Status)
	}
	res, text := s.send(t, "GET", "/metrics", "", bearer(s.read))
	if res.StatusCode != 200 || !strings.HasPrefix(res.Header.Get("Content-Type"), "text/plain") {
		t.Fatalf("%s, %s", res.Status, res.Header.Get("Content-Type"))
	}
	for _, want := range []string{
		`sipward_messages_total{direction="from-outside",method="INVITE",reason="scanner",verdict="drop"} 3`,
		`sipward_packet_duration_seconds_bucket{transport="udp",le="0.001"} 3`,
		`sipward_packet_duration_seconds_count{transport="udp"} 6`,
		`sipward_pbx_up{pbx="2"} 0`,
		`sipward_certificate_expiry_timestamp_seconds{certificate="1"} `,
		`sipward_bans{kind="dynamic"} 1`,
		`sipward_udp_receive_queue_ratio 0.5`,
		`go_goroutines `,
	} {
		if !strings.Contains(text, "\n"+want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
}

func file(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestMetricsDocumentation: docs/metrics.md lists each metric with its type and labels.
func TestMetricsDocumentation(t *testing.T) {
	documented := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(sipward_[a-z_]+)` \\| ([a-z]+) \\| ([^|]*) \\|").FindAllStringSubmatch(string(file(t, "../docs/metrics.md")), -1) {
		documented[m[1]] = m[2] + " " + strings.ReplaceAll(m[3], "`", "")
	}
	if want := admin.Families(); !maps.Equal(documented, want) {
		for name := range want {
			if documented[name] != want[name] {
				t.Errorf("%s is documented as %q, want %q", name, documented[name], want[name])
			}
		}
		for name := range documented {
			if want[name] == "" {
				t.Errorf("%s is documented, but there is none", name)
			}
		}
	}
}

var metricName = regexp.MustCompile(`\bsipward_[a-z_]+`)

// checkExpression wants each metric of a query to exist.
func checkExpression(t *testing.T, where, expr string) {
	t.Helper()
	names := metricName.FindAllString(expr, -1)
	if len(names) == 0 {
		t.Errorf("%s: %q asks for no metric of sipward's", where, expr)
	}
	for _, n := range names {
		base := n
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			base = strings.TrimSuffix(base, suffix)
		}
		if known := admin.Families(); known[n] == "" && !strings.HasPrefix(known[base], "histogram") {
			t.Errorf("%s: there is no metric %s", where, n)
		}
	}
}

// TestAlerts: each alert of the example asks for what there is, and says what to do.
func TestAlerts(t *testing.T) {
	var rules struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Alert, Expr, For    string
				Labels, Annotations map[string]string
			}
		}
	}
	if err := yaml.UnmarshalWithOptions(file(t, "../dist/sipward.alerts.yaml"), &rules, yaml.Strict()); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			n++
			checkExpression(t, r.Alert, r.Expr)
			if r.Alert == "" || r.Labels["severity"] == "" || r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
				t.Errorf("%s lacks a severity, a summary or a description", r.Alert)
			}
		}
	}
	if n < 8 {
		t.Errorf("%d alerts", n)
	}
}

// TestDashboard: each panel of the example asks for what there is.
func TestDashboard(t *testing.T) {
	var board struct {
		Title  string
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(file(t, "../dist/grafana.json"), &board); err != nil {
		t.Fatal(err)
	}
	if board.Title == "" || len(board.Panels) < 8 {
		t.Errorf("%q has %d panels", board.Title, len(board.Panels))
	}
	for _, p := range board.Panels {
		if len(p.Targets) == 0 {
			t.Errorf("%s shows nothing", p.Title)
		}
		for i, target := range p.Targets {
			checkExpression(t, fmt.Sprint(p.Title, " ", i), target.Expr)
		}
	}
}
