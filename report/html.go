package report

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"

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
	t, err := template.New("report").Parse(page)
	if err != nil {
		return err
	}
	d := pageData{Report: r, About: r.about(), Remarks: r.remarks(), Heading: r.heading(), Names: countNames, Made: seconds(r.Generated)}
	for _, l := range r.lines(seconds) {
		d.Rows = append(d.Rows, pageRow{l.Kind, r.label(&l), l.Figures, []string{l.First, l.Last}, l.Samples})
	}
	if len(r.Acts) > 0 {
		d.ActNames = actNames
	}
	for i := range r.Acts {
		d.ActRows = append(d.ActRows, r.Acts[i].fields(seconds))
	}
	if d.SeriesChart, err = r.seriesChart(); err != nil {
		return err
	}
	if d.TopChart, err = r.topChart(); err != nil {
		return err
	}
	return t.Execute(w, d)
}

const (
	chartWidth  = 960
	chartHeight = 320
	topBars     = 10
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
	const most = 24
	if c := []rune(s); len(c) > most {
		return string(c[:most-1]) + "…"
	} else if s == "" {
		return "-"
	}
	return s
}

// draw draws stacked bars. The library escapes the labels.
func draw(title string, labels []string, values [][]float64, horizontal bool) (template.HTML, error) {
	opt := charts.NewBarChartOptionWithData(values)
	opt.Title.Text = title
	opt.CategoryAxis.Labels = labels
	opt.Legend.SeriesNames = parts
	opt.Legend.Offset = charts.OffsetRight
	opt.StackSeries = charts.Ptr(true)
	opt.Horizontal = horizontal
	p := charts.NewPainter(charts.PainterOptions{OutputFormat: charts.ChartOutputSVG, Width: chartWidth, Height: chartHeight})
	if err := p.BarChart(opt); err != nil {
		return "", fmt.Errorf("draw %q: %w", title, err)
	}
	svg, err := p.Bytes()
	return template.HTML(svg), err //nolint:gosec // our own drawing
}
