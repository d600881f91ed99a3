package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sipward/report"
)

// TestReport sends messages through a running sipward and asks what happened.
func TestReport(t *testing.T) {
	r := start(t, "node: edge7")
	c, err := net.Dial("udp", fmt.Sprint("127.0.0.1:", r.port))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	const n = 5
	for range n {
		if _, err := c.Write([]byte("hello <script>alert(1)</script>\r\n\r\n")); err != nil {
			t.Fatal(err)
		}
	}
	r.cli(0, words("ban 192.0.2.77 --for 1h --reason tests"), "banned")
	r.cli(0, words("unban 192.0.2.77"))
	r.cli(exitRefused, words("unban 192.0.2.78"))

	var got report.Report
	for deadline := time.Now().Add(30 * time.Second); got.Total.Messages < n || got.Total.Acts < 5; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%+v", got)
		}
		got = report.Report{}
		if err := json.Unmarshal([]byte(r.cli(0, words("report --last 1h --by source,action --format json"))), &got); err != nil {
			t.Fatal(err)
		}
	}
	if got.Total.Rejected != n || got.Total.Bans != 1 || got.Total.Acts != 5 {
		t.Errorf("%+v", got.Total)
	}
	r.cli(0, words("report --by source"), "127.0.0.1", "192.0.2.77", "total")
	r.cli(0, words("report --acts --action command"), "edge7", "ban 192.0.2.77 for=", "(uid", "unban 192.0.2.78", "is not banned")
	r.cli(0, words("report --source 192.0.2.77 --acts"), "unban", "192.0.2.77", "tests")
	r.cli(0, words("report --format csv --by reason"), "row,reason,messages,passed", "total,,")
	file := filepath.Join(r.dir, "out.html")
	if out := r.cli(0, words("report --by day --format html --output "+file)); out != "" {
		t.Errorf("printed: %s", out)
	}
	if page, err := os.ReadFile(file); err != nil || !strings.Contains(string(page), "<svg") {
		t.Errorf("%v, %.200s", err, page)
	}
	r.cli(0, words("status"), "journal.db", "messages counted 5, lost 0")

	r.cli(exitUsage, words("report --last yesterday"), "last: ", "such as 90m")
	r.cli(exitUsage, words("report --by colour"), "by: ")
	r.cli(exitUsage, words("report --format pdf"), "table, csv")
	r.cli(exitUsage, words("report now"), "takes no argument")
	r.cli(exitRefused, words("report --output /nonexistent/x"), "no such file")

	r.end()
	if code := execute(t.Context(), newRoot(), []string{"report", "--socket", r.socket}); code != exitUnreachable {
		t.Errorf("exit code %d without a sipward", code)
	}
	r.begin()
	r.cli(0, words("report --by reason"), "malformed")
}

func TestNoJournal(t *testing.T) {
	r := start(t, "report: {enabled: false}")
	r.cli(exitRefused, words("report"), "report.enabled")
	r.cli(0, words("ban 192.0.2.77"))
	if out := r.cli(0, words("status")); strings.Contains(out, "journal") {
		t.Error(out)
	}
	if _, err := os.Stat(filepath.Join(r.dir, journalName)); err == nil {
		t.Error("there is a journal")
	}
}
