package report

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"strconv"

	"github.com/go-analyze/charts"
)

//go:embed report.html
var page string

// pageData is what the page shows.
type pageData struct {
	*Report
	About, Remarks        []string
	Heading, Names        []string
	Rows                  []pageRow
	ActNames              []string
	ActRows               [][]string
	SeriesChart, TopChart template.HTML
	Made                  string
}

type pageRow struct {
	Kind    string
	Label   []string
	Figures []string
	Times   []string
	Samples []Sample
}

// html writes a page that needs nothing else.
func (r *Report) html(w io.Writer) error {
	t, err := template.New("report").Funcs(template.FuncMap{"printable": printable}).Parse(page)
	if err != nil {
		return err
	}
	d := pageData{Report: r, About: visible(r.about()), Remarks: visible(r.remarks()), Heading: r.heading(), Names: countNames, Made: seconds(r.Generated)}
	for _, l := range r.lines(seconds) {
		d.Rows = append(d.Rows, pageRow{l.Kind, visible(r.label(&l)), l.Figures, []string{l.First, l.Last}, l.Samples})
	}
	if len(r.Acts) > 0 {
		d.ActNames = actNames
	}
	for i := range r.Acts {
		d.ActRows = append(d.ActRows, visible(r.Acts[i].fields(seconds)))
	}
	if d.SeriesChart, err = r.seriesChart(); err != nil {
		return err
	}
	if d.TopChart, err = r.topChart(); err != nil {
		return err
	}
	return t.Execute(w, d)
}

// visible makes texts what they look like: a control character could turn the line around.
func visible(texts []string) []string {
	out := make([]string, len(texts))
	for i, s := range texts {
		out[i] = printable(s)
	}
	return out
}

const (
	chartWidth  = 960
	chartHeight = 320
	topBars     = 10
	mostLabels  = 6 // of times, so that they have room
)

// parts are the series of a chart.
var parts = []string{"passed", "dropped", "rejected"}

func (c *Counts) parts() [3]float64 {
	return [3]float64{float64(c.Passed), float64(c.Dropped), float64(c.Rejected)}
}

// seriesChart draws messages over time; empty if there were none.
func (r *Report) seriesChart() (template.HTML, error) {
	if r.Total.Messages == 0 || len(r.Series) == 0 {
		return "", nil
	}
	layout := map[string]string{ByMinute: "15:04", ByHour: "Jan 2 15:04", ByDay: "Jan 2"}[r.Bucket]
	values := make([][]float64, len(parts))
	var labels []string
	for _, p := range r.Series {
		labels = append(labels, p.Time.Format(layout))
		for i, v := range p.parts() {
			values[i] = append(values[i], v)
		}
	}
	return draw(fmt.Sprintf("Messages per %s", r.Bucket), labels, values, false)
}

// topChart draws the groups with the most messages; empty if there are none.
func (r *Report) topChart() (template.HTML, error) {
	values := make([][]float64, len(parts))
	var labels []string
	for i := min(topBars, len(r.Groups)) - 1; i >= 0; i-- { // drawn from the bottom up
		g := &r.Groups[i]
		if isTime(r.By[0]) {
			return "", nil // the other chart shows it
		}
		label := ""
		for n, k := range g.Key {
			if n > 0 {
				label += " · "
			}
			label += shorten(printable(k))
		}
		labels = append(labels, label)
		for n, v := range g.parts() {
			values[n] = append(values[n], v)
		}
	}
	if len(labels) == 0 || r.Total.Messages == 0 {
		return "", nil
	}
	return draw("Messages by group", labels, values, true)
}

// shorten keeps a label from taking the chart's room.
func shorten(s string) string {
	const most = 20
	if c := []rune(s); len(c) > most {
		return string(c[:most-1]) + "…"
	} else if s == "" {
		return "-"
	}
	return s
}

// colors are those of parts; green and red differ in brightness, too.
func colors() []charts.Color {
	return []charts.Color{charts.ColorRGB(0x5a, 0xb4, 0x8c), charts.ColorRGB(0xb4, 0x32, 0x32), charts.ColorRGB(0xf0, 0xb4, 0x46)}
}

// draw draws stacked bars. The library escapes the labels.
func draw(title string, labels []string, values [][]float64, horizontal bool) (template.HTML, error) {
	opt := charts.NewBarChartOptionWithData(values)
	opt.Theme = charts.GetDefaultTheme().WithSeriesColors(colors())
	opt.Title.Text = title
	opt.CategoryAxis.Labels = labels
	opt.Legend.SeriesNames = parts
	opt.Legend.Offset = charts.OffsetRight
	opt.StackSeries = charts.Ptr(true)
	opt.Horizontal = horizontal
	opt.ValueFormatter = func(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }
	if opt.CategoryAxis.LabelCount = mostLabels; horizontal {
		opt.CategoryAxis.LabelCount = len(labels)
	}
	p := charts.NewPainter(charts.PainterOptions{OutputFormat: charts.ChartOutputSVG, Width: chartWidth, Height: chartHeight})
	if err := p.BarChart(opt); err != nil {
		return "", fmt.Errorf("draw %q: %w", title, err)
	}
	svg, err := p.Bytes()
	return template.HTML(svg), err //nolint:gosec // our own drawing
}
