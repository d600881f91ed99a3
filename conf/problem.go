package conf

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Problem is one mistake in the configuration.
type Problem struct {
	// File, Line and Column say where it is; lines and columns count from 1. A
	// key that is missing is reported where the file begins.
	File         string
	Line, Column int
	// Variable is the environment variable that holds the mistake; then the
	// position is empty.
	Variable string
	// Key is the dotted path of the key, empty when the file as a whole is wrong.
	Key string
	// Text says what is wrong and what to do about it.
	Text string
}

func (p Problem) Error() string {
	where := fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
	if p.Variable != "" {
		where = "environment variable " + p.Variable
	}
	if p.Key == "" {
		return where + ": " + p.Text
	}
	return where + ": " + p.Key + ": " + p.Text
}

// Problem says what is wrong with a key of a configuration that conf itself cannot see, such
// as in a file that it names. The key may be of an item, as in pbx[0].tls.ca.
func (c *Config) Problem(key, text string) Problem {
	rep := &report{file: c.file}
	rep.fail(c.origin(key), key, "%s", text)
	return rep.problems[0]
}

// origin returns where a key is written, or what it is in; the zero origin for a default.
func (c *Config) origin(key string) origin {
	name, rest, isItem := strings.Cut(key, "[")
	n := c.values[name]
	if n == nil || !isItem {
		return n.writtenAt()
	}
	index, rest, _ := strings.Cut(rest, "]")
	i, err := strconv.Atoi(index)
	if err != nil || i >= len(n.items) {
		return n.writtenAt()
	}
	n = n.items[i]
	for name := range strings.SplitSeq(strings.TrimPrefix(rest, "."), ".") {
		for _, f := range n.fields {
			if f.name == name {
				n = f.value
			}
		}
	}
	return n.writtenAt()
}

// Errors holds every mistake of a configuration: those in the file in the order
// of the file, then those in the environment.
type Errors []Problem

// Error returns one line for each mistake.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, p := range e {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}

// maxProblems bounds the answer to a file that is something else altogether.
const maxProblems = 200

// report gathers the problems of one file.
type report struct {
	file     string
	problems Errors
	unshown  int // problems beyond maxProblems
}

// fail notes a problem. What has no origin is missing, and is reported where
// the file begins.
func (r *report) fail(at origin, key, format string, args ...any) {
	if len(r.problems) >= maxProblems {
		r.unshown++
		return
	}
	p := Problem{Key: key, Text: fmt.Sprintf(format, args...)}
	if at.variable != "" {
		p.Variable = at.variable
	} else {
		p.File, p.Line, p.Column = r.file, max(at.line, 1), max(at.column, 1)
	}
	r.problems = append(r.problems, p)
}

// err returns the problems in their order, nil when there are none.
func (r *report) err() error {
	if len(r.problems) == 0 {
		return nil
	}
	slices.SortStableFunc(r.problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Variable, b.Variable), a.Line-b.Line, a.Column-b.Column)
	})
	if r.unshown > 0 {
		last := r.problems[len(r.problems)-1]
		last.Key, last.Text = "", fmt.Sprintf("%d more problems are not shown; mend these first", r.unshown)
		r.problems = append(r.problems, last)
	}
	return r.problems
}

// quoteMax is how many characters of a wrong value a message repeats.
const quoteMax = 60

// quote makes a piece of the file fit to be shown.
func quote(s string) string {
	if r := []rune(s); len(r) > quoteMax {
		s = string(r[:quoteMax]) + "…"
	}
	return fmt.Sprintf("%q", s)
}
