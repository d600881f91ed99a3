package report

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
)

// The formats of a report.
const (
	FormatTable = "table"
	FormatCSV   = "csv"
	FormatJSON  = "json"
	FormatHTML  = "html"
)

// Formats returns the names of all formats.
func Formats() []string { return []string{FormatTable, FormatCSV, FormatJSON, FormatHTML} }

// Render writes the report in a format. What strangers wrote is escaped as the format
// needs it.
func (r *Report) Render(w io.Writer, format string) error {
	switch format {
	case FormatTable:
		return r.table(w)
	case FormatCSV:
		return r.csv(w)
	case FormatJSON:
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(r)
	case FormatHTML:
		return r.html(w)
	}
	return fmt.Errorf("%q is no format of a report; there are %s", format, strings.Join(Formats(), ", "))
}

// countNames are the headings of figures.
var countNames = []string{"messages", "passed", "dropped", "rejected", "bans", "acts"}

func (c Counts) figures() []string {
	var out []string
	for _, n := range []uint64{c.Messages, c.Passed, c.Dropped, c.Rejected, c.Bans, c.Acts} {
		out = append(out, strconv.FormatUint(n, 10))
	}
	return out
}

// line is a group, or what the others or all have together, as text.
type line struct {
	Kind        string   // group, others or total
	Key         []string // of a group
	Figures     []string
	First, Last string
	Samples     []Sample
}

// lines returns what all formats but JSON show of groups.
func (r *Report) lines(clock func(time.Time) string) []line {
	var all []line
	for _, g := range r.Groups {
		key := slices.Clone(g.Key)
		for i := range key {
			if isTime(r.By[i]) {
				if t, err := time.Parse(time.RFC3339, key[i]); err == nil {
					key[i] = clock(t)
				}
			}
		}
		all = append(all, line{"group", key, g.figures(), clock(g.First), clock(g.Last), g.Samples})
	}
	if r.OtherGroups > 0 {
		all = append(all, line{Kind: "others", Figures: r.Others.figures()})
	}
	return append(all, line{Kind: "total", Figures: r.Total.figures()})
}

// actNames are the headings of acts.
var actNames = []string{"time", "node", "action", "source", "account", "guard", "reason", "until", "by", "text", "failed"}

func (a *Act) fields(clock func(time.Time) string) []string {
	until := ""
	if !a.Until.IsZero() {
		until = clock(a.Until)
	}
	return []string{clock(a.Time), a.Node, string(a.Action), show(a.Source), a.Account, a.Guard, a.Reason, until, a.By, a.Text, a.Failed}
}

func minutes(t time.Time) string { return t.Format("2006-01-02 15:04") }
func seconds(t time.Time) string { return t.Format(time.DateTime) }
func rfc3339(t time.Time) string { return t.Format(time.RFC3339) }

// about says what the report is of, in lines.
func (r *Report) about() []string {
	all := []string{fmt.Sprintf("%s to %s", minutes(r.From), minutes(r.To))}
	for _, name := range Dimensions() {
		if f := r.Filters[name]; len(f) > 0 {
			all = append(all, name+": "+strings.Join(f, ", "))
		}
	}
	return all
}

// remarks says what is missing in the figures.
func (r *Report) remarks() []string {
	var all []string
	if r.Lost > 0 {
		all = append(all, fmt.Sprintf("%d messages were too many at once to be counted here; sipward status counts all", r.Lost))
	}
	if r.Unreadable > 0 {
		all = append(all, fmt.Sprintf("minutes of the journal that cannot be understood: %d", r.Unreadable))
	}
	if r.Trouble != "" {
		all = append(all, "the journal's database cannot be read, so this is what is in memory: "+r.Trouble)
	}
	return all
}

// printable makes text harmless on a terminal.
func printable(s string) string {
	if !strings.ContainsFunc(s, func(c rune) bool { return !unicode.IsPrint(c) }) {
		return s
	}
	q := strconv.Quote(s)
	return q[1 : len(q)-1]
}

func (r *Report) table(out io.Writer) error {
	for _, text := range r.about() {
		fmt.Fprintln(out, printable(text))
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	if len(r.Acts) > 0 {
		fmt.Fprintln(w, strings.Join(actNames, "\t"))
		for i := range r.Acts {
			cells(w, r.Acts[i].fields(seconds))
		}
		fmt.Fprintln(w)
	}
	fmt.Fprintln(w, strings.Join(slices.Concat(r.heading(), countNames, []string{"first", "last"}), "\t"))
	for _, l := range r.lines(seconds) {
		cells(w, slices.Concat(r.label(&l), l.Figures, []string{l.First, l.Last}))
	}
	for _, text := range r.remarks() {
		fmt.Fprintln(w, printable(text))
	}
	return w.Flush()
}

// heading names what groups are of; one column is needed for the total.
func (r *Report) heading() []string {
	if len(r.By) == 0 {
		return []string{""}
	}
	return r.By
}

// label is the part of a line before the figures.
func (r *Report) label(l *line) []string {
	if l.Kind == "group" {
		return l.Key
	}
	out := make([]string, len(r.heading()))
	if out[0] = l.Kind; l.Kind == "others" {
		out[0] = fmt.Sprintf("%d others", r.OtherGroups)
	}
	return out
}

func cells(w io.Writer, texts []string) {
	shown := make([]string, len(texts))
	for i, s := range texts {
		if shown[i] = printable(s); s == "" {
			shown[i] = "-"
		}
	}
	fmt.Fprintln(w, strings.Join(shown, "\t"))
}

// csv writes groups with what the others and all have together, told apart by the first
// column; or acts.
func (r *Report) csv(out io.Writer) error {
	w := csv.NewWriter(out)
	var rows [][]string
	if r.Acts != nil {
		rows = append(rows, actNames)
		for i := range r.Acts {
			rows = append(rows, r.Acts[i].fields(rfc3339))
		}
	} else {
		rows = append(rows, slices.Concat([]string{"row"}, r.By, countNames, []string{"first", "last"}))
		for _, l := range r.lines(rfc3339) {
			key := l.Key
			if l.Kind != "group" {
				key = make([]string, len(r.By))
			}
			rows = append(rows, slices.Concat([]string{l.Kind}, key, l.Figures, []string{l.First, l.Last}))
		}
	}
	for _, row := range rows {
		safe := make([]string, len(row)) // headings are for all reports
		for i := range row {
			safe[i] = inert(row[i])
		}
		if err := w.Write(safe); err != nil {
			return err
		}
	}
	w.Flush()
	return w.Error()
}

// inert keeps a spreadsheet from running a cell as a formula.
func inert(cell string) string {
	if cell != "" && strings.ContainsRune("=+-@\t\r\n", rune(cell[0])) {
		return "'" + cell
	}
	return cell
}
