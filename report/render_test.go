package report_test

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"

	"golang.org/x/net/html"

	"sipward/policy"
	"sipward/report"
)

// hostile are texts that strangers write.
var hostile = []string{
	`<script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, `=cmd|' /C calc'!A0`, `+4930123@example.com`, "a\x1b[2J\x07b", "tab\tand\nline",
	"\xff\xfe8-bit\xe4", `{{.Remarks}}`, "\u202ertl", "a,b;\"c\"", "@sum(1)", "-1+1", "]]>&amp;",
}

func hostileReport(t *testing.T) *report.Report {
	t.Helper()
	j := open(t, report.Config{Node: "<b>node</b>"})
	for i, account := range hostile {
		for range 100 - i {
			ev := message(noon.Add(time.Duration(i)*time.Minute), "192.0.2.1", account, policy.Verdict(i%3), policy.ReasonMalformed)
			ev.Detail.SetString(account)
			j.Count(ev)
		}
		j.Add(report.Act{Time: noon, Action: report.ActionBan, Account: account, Text: account, By: account})
	}
	return ask(t, j, "by=account,node&top=10")
}

// figures are a table's figures by what they are of: the account as it stands in the
// report, others, or total.
type figures map[string]string

// TestSameFigures holds the four formats together.
func TestSameFigures(t *testing.T) {
	r := hostileReport(t)
	want := figures{}
	for _, g := range r.Groups {
		want[g.Key[0]] = fmt.Sprint(g.Messages, g.Passed, g.Dropped, g.Rejected, g.Bans, g.Acts)
	}
	o, s := r.Others, r.Total
	want["others"] = fmt.Sprint(o.Messages, o.Passed, o.Dropped, o.Rejected, o.Bans, o.Acts)
	want["total"] = fmt.Sprint(s.Messages, s.Passed, s.Dropped, s.Rejected, s.Bans, s.Acts)
	if len(want) != 12 || r.OtherGroups != 3 || r.Total.Messages != 13*94 {
		t.Fatalf("%d lines, %d others, %+v", len(want), r.OtherGroups, r.Total)
	}

	var again report.Report
	if err := json.Unmarshal(render(t, r, report.FormatJSON), &again); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(again.Total, again.Others, len(again.Groups)) != fmt.Sprint(r.Total, r.Others, len(r.Groups)) {
		t.Errorf("JSON: %+v", again)
	}
	for i, g := range again.Groups {
		if g.Counts != r.Groups[i].Counts || !slices.Equal(g.Key, r.Groups[i].Key) {
			t.Errorf("JSON: %+v, want %+v", g, r.Groups[i])
		}
	}
	for format, read := range map[string]func(*testing.T, []byte) [][]string{
		report.FormatCSV: csvCells, report.FormatTable: tableCells, report.FormatHTML: htmlCells,
	} {
		rows := read(t, render(t, r, format))
		if len(rows) != len(want) {
			t.Errorf("%s: %d rows, want %d:\n%q", format, len(rows), len(want), rows)
			continue
		}
		for i, row := range rows {
			name := "total"
			if i < len(r.Groups) {
				name = r.Groups[i].Key[0]
			} else if i == len(r.Groups) {
				name = "others"
			}
			if got := strings.Join(row, " "); got != want[name] {
				t.Errorf("%s: %q has %s, want %s", format, name, got, want[name])
			}
		}
	}
}

func render(t *testing.T, r *report.Report, format string) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := r.Render(&b, format); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func csvCells(t *testing.T, text []byte) (rows [][]string) {
	all, err := csv.NewReader(bytes.NewReader(text)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range all[1:] {
		rows = append(rows, row[3:9])
		for _, cell := range row {
			if cell != "" && strings.ContainsRune("=+-@\t\r", rune(cell[0])) {
				t.Errorf("a spreadsheet would run %q", cell)
			}
		}
	}
	return rows
}

var figuresForm = regexp.MustCompile(`((?: +[0-9]+){6})  +(?:[0-9]{4}-|-)`)

func tableCells(t *testing.T, text []byte) (rows [][]string) {
	for line := range strings.Lines(string(text)) {
		if strings.ContainsFunc(strings.TrimSuffix(line, "\n"), func(c rune) bool { return !unicode.IsPrint(c) }) {
			t.Errorf("a terminal would not print but do: %q", line)
		}
		if m := figuresForm.FindStringSubmatch(line); m != nil {
			rows = append(rows, strings.Fields(m[1]))
		}
	}
	return rows
}

func htmlCells(t *testing.T, text []byte) (rows [][]string) {
	doc, err := html.Parse(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	for n := range doc.Descendants() {
		if n.Type != html.ElementNode {
			continue
		}
		if slices.Contains([]string{"script", "img", "link", "iframe", "object"}, n.Data) {
			t.Errorf("the page has an element %s", n.Data)
		}
		for _, a := range n.Attr {
			if strings.HasPrefix(a.Key, "on") || a.Key == "src" || a.Key == "href" {
				t.Errorf("the page has an attribute %s=%q", a.Key, a.Val)
			}
		}
		if n.Data != "tr" || n.Parent.Parent == nil || !slices.ContainsFunc(n.Parent.Parent.Attr, func(a html.Attribute) bool { return a.Val == "groups" }) {
			continue
		}
		var row []string
		for c := range n.ChildNodes() {
			if c.Data == "td" && len(c.Attr) > 0 && c.Attr[0].Val == "n" {
				row = append(row, c.FirstChild.Data)
			}
		}
		if len(row) > 0 {
			rows = append(rows, row)
		}
	}
	return rows
}

// TestPageIsWhole looks at the page's charts and that it needs nothing else.
func TestPageIsWhole(t *testing.T) {
	page := render(t, hostileReport(t), report.FormatHTML)
	charts := regexp.MustCompile(`(?s)<svg.*?</svg>`).FindAll(page, -1)
	if len(charts) != 2 {
		t.Fatalf("%d charts", len(charts))
	}
	for _, c := range charts {
		dec := xml.NewDecoder(bytes.NewReader(c))
		for {
			if _, err := dec.Token(); err == io.EOF {
				break
			} else if err != nil {
				t.Fatalf("a chart is not XML: %v", err)
			}
		}
		if !bytes.Contains(c, []byte("passed")) || !bytes.Contains(c, []byte("<path")) {
			t.Errorf("a chart without its bars: %.300s", c)
		}
	}
	rest := bytes.ReplaceAll(bytes.ReplaceAll(page, []byte("http://www.w3.org/2000/svg"), nil), []byte("http://www.w3.org/1999/xlink"), nil)
	if bytes.Contains(rest, []byte("http")) || bytes.Contains(rest, []byte("url(")) {
		t.Error("the page refers to something outside")
	}
}

func TestEmptyReport(t *testing.T) {
	j := open(t, report.Config{})
	for _, text := range []string{"", "by=source", "by=day", "acts=true"} {
		r := ask(t, j, text)
		for _, f := range report.Formats() {
			if out := render(t, r, f); len(out) == 0 {
				t.Errorf("%s as %s is empty", text, f)
			}
		}
	}
	if err := new(report.Report).Render(io.Discard, "pdf"); err == nil {
		t.Error("rendered as pdf")
	}
}

func TestActsInAllFormats(t *testing.T) {
	j := open(t, report.Config{})
	for i, s := range hostile {
		j.Add(report.Act{Time: noon.Add(time.Duration(i) * time.Second), Action: report.ActionCommand, Text: s, By: s, Failed: s, Account: s})
	}
	r := ask(t, j, "acts=true")
	if len(r.Acts) != len(hostile) {
		t.Fatal(len(r.Acts))
	}
	htmlCells(t, render(t, r, report.FormatHTML))
	if rows := csvCells(t, render(t, r, report.FormatCSV)); len(rows) != len(hostile) {
		t.Errorf("%d rows of CSV", len(rows))
	}
	tableCells(t, render(t, r, report.FormatTable))
}

// TestRenderTogether: reports are written by several at a time.
func TestRenderTogether(t *testing.T) {
	r := &report.Report{Acts: []report.Act{act("one")}}
	var group sync.WaitGroup
	for range 4 {
		for _, format := range report.Formats() {
			group.Go(func() {
				if err := r.Render(io.Discard, format); err != nil {
					t.Error(err)
				}
			})
		}
	}
	group.Wait()
}
