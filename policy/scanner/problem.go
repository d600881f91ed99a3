package scanner

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Problem is one mistake in a signature file.
type Problem struct {
	File         string
	Line, Column int // both count from 1
	Text         string
}

func (p Problem) Error() string {
	return fmt.Sprintf("%s:%d:%d: %s", p.File, p.Line, p.Column, p.Text)
}

// Errors holds every mistake of a file in the order of the file.
type Errors []Problem

// Error returns one line for each mistake.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, p := range e {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}

// place is a position in a file. The zero place is its beginning.
type place struct{ line, column int }

// maxProblems bounds the answer to a file that is something else altogether.
const maxProblems = 100

// report gathers the problems of one file.
type report struct {
	file     string
	lines    int // of the file; 0: not known
	problems Errors
}

func (r *report) fail(at place, format string, args ...any) {
	if r.lines > 0 && at.line > r.lines {
		at = place{line: r.lines} // the YAML parser's idea of the end
	}
	if len(r.problems) < maxProblems {
		r.problems = append(r.problems, Problem{File: r.file, Line: max(at.line, 1), Column: max(at.column, 1), Text: fmt.Sprintf(format, args...)})
	}
}

// err returns the problems in their order, nil when there are none.
func (r *report) err() error {
	if len(r.problems) == 0 {
		return nil
	}
	slices.SortStableFunc(r.problems, func(a, b Problem) int {
		return cmp.Or(a.Line-b.Line, a.Column-b.Column)
	})
	return r.problems
}

// quote makes a piece of the file fit to be shown.
func quote(s string) string {
	const most = 60
	if r := []rune(s); len(r) > most {
		s = string(r[:most]) + "…"
	}
	return fmt.Sprintf("%q", s)
}

// suggest ends the message about an unknown name: the known one that was probably
// meant, or all of them when they are few.
func suggest(name string, known []string) string {
	best, distance := "", max(2, len(name)/3)+1
	if len(name) <= 64 {
		for _, k := range known {
			if d := editDistance(strings.ToLower(name), k); d < distance {
				best, distance = k, d
			}
		}
	}
	switch {
	case best != "":
		return fmt.Sprintf("did you mean %q?", best)
	case len(known) > 30:
		return "the known ones are in docs/signatures.md"
	}
	return "known are " + strings.Join(known, ", ")
}

// editDistance counts the characters to insert, remove or replace.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j]+1, row[j+1]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
