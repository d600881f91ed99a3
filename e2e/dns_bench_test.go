//go:build linux

package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"sipward/e2e/lab"
)

// benchNames is how many names the zone of the measurement has.
const benchNames = 30_000

// TestDNSBench puts sipward and dnsmasq, each with its cache, between dnsperf and nsd: `make bench-dns`.
func TestDNSBench(t *testing.T) {
	if os.Getenv("DNS_BENCH") == "" {
		t.Skip("a measurement: make bench-dns")
	}
	lab.Need(t, "dig", "nsd", "dnsmasq", "dnsperf")
	s := &site{Lab: labs.New(t)}
	var zone, all, few strings.Builder
	zone.WriteString("$ORIGIN example.com.\n$TTL 3600\n@ SOA ns hostmaster 1 3600 600 86400 120\n@ NS ns\nns A 198.51.100.53\n")
	for i := range benchNames {
		fmt.Fprintf(&zone, "h%d A 192.0.2.%d\n", i, 1+i%250)
		fmt.Fprintf(&all, "h%d.example.com A\n", i)
		if i < 500 {
			fmt.Fprintf(&few, "h%d.example.com A\n", i)
		}
	}
	s.StartNSD(t, "example.com", zone.String())
	files := map[string]string{}
	for name, text := range map[string]string{"asked for": all.String(), "cached": few.String()} {
		files[name] = filepath.Join(s.Dir(), strings.ReplaceAll(name, " ", "-"))
		if err := os.WriteFile(files[name], []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s.start(t, lab.Config{Extra: "log: {level: info}\ndns: {listen: [udp://203.0.113.1, tcp://203.0.113.1], upstreams: [198.51.100.53], cache_entries: 100000, cache_size: 64MiB, action: off}\n"})
	dnsmasq, err := s.Lab.Start(s.Edge, "dnsmasq", "dnsmasq", "-k", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--user=root", "--pid-file=",
		"--bind-interfaces", "--except-interface=lo", "--listen-address=203.0.113.1", "--port=5300", "--server=198.51.100.53", "--cache-size=10000", "--dns-forward-max=1000")
	if err != nil {
		t.Fatal(err)
	}
	lab.Poll(t, 10*time.Second, "dnsmasq serves", func() error {
		_, err := s.PBX.Output("dig", "@203.0.113.1", "-p", "5300", "+time=1", "+tries=1", "ns.example.com")
		return err
	})
	t.Logf("%-10s %-10s %12s %12s %14s %8s", "server", "names", "queries/s", "latency", "CPU per query", "lost")
	for range 2 {
		for _, subject := range []struct {
			name string
			port int
			p    func() *lab.Process
		}{{"sipward", 53, func() *lab.Process { return s.sipward.Process }}, {"dnsmasq", 5300, func() *lab.Process { return dnsmasq }}} {
			for _, load := range []string{"asked for", "cached"} {
				args := []string{"dnsperf", "-s", "203.0.113.1", "-p", strconv.Itoa(subject.port), "-d", files[load], "-c", "20", "-q", "100", "-t", "2"}
				if load == "cached" {
					args = append(args, "-l", "8")
				} else {
					args = append(args, "-n", "1")
					s.forgetAnswers(t, subject.name, dnsmasq)
				}
				before := cpu(t, subject.p())
				out, err := s.PBX.Output(args...)
				if err != nil {
					t.Fatal(err)
				}
				r := results(out)
				t.Logf("%-10s %-10s %12s %12s %11.1f µs %8s", subject.name, load, r["Queries per second"], r["Average Latency (s)"],
					float64((cpu(t, subject.p())-before).Microseconds())/number(r["Queries completed"]), r["Queries lost"])
			}
		}
	}
}

// forgetAnswers empties a cache.
func (s *site) forgetAnswers(t *testing.T, name string, dnsmasq *lab.Process) {
	t.Helper()
	if name == "sipward" {
		s.sipward.Stop(5 * time.Second)
		s.sipward.Restart(t)
		return
	}
	if err := dnsmasq.Signal(syscall.SIGHUP); err != nil { // dnsmasq clears its cache
		t.Fatal(err)
	}
}

// cpu is the time that a process has used, in user and system mode.
func cpu(t *testing.T, p *lab.Process) time.Duration {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.PID()))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	f := strings.Fields(rest)
	return time.Duration(number(f[11])+number(f[12])) * 10 * time.Millisecond
}

func number(text string) float64 {
	f, _, _ := strings.Cut(text, " ")
	v, _ := strconv.ParseFloat(f, 64)
	return v
}

var resultLine = regexp.MustCompile(`(?m)^\s+([A-Z][^:\n]*):\s+(\S.*)$`)

// results reads what dnsperf prints at its end.
func results(out string) map[string]string {
	all := map[string]string{}
	for _, m := range resultLine.FindAllStringSubmatch(out, -1) {
		all[m[1]], _, _ = strings.Cut(m[2], " (")
	}
	return all
}
