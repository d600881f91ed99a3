package iplist

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// maxFileErrors limits what a wrong file says: enough to see the pattern, not
// a page for each line of a file that is something else altogether.
const maxFileErrors = 10

// maxLine is the longest line of a list file, in bytes.
const maxLine = 4096

// ReadFile reads a list from a file; see Parse for the format. A file that
// does not exist is an error: a deny list that silently is not there would
// let everyone in.
func ReadFile(path string) ([]Entry, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read list: %w", err)
	}
	defer f.Close()
	return Parse(f, path)
}

// Parse reads a list: one address or prefix a line; everything from a # to the
// end of the line is a comment, and one beside a prefix is kept with it. Empty
// lines, a byte order mark and CRLF line ends are accepted. When lines are
// wrong, the errors of the first ten of them are joined, each starting with
// name:line, and no entries are returned.
func Parse(r io.Reader, name string) ([]Entry, error) {
	var (
		entries []Entry
		errs    []error
		line    int
	)
	sc := bufio.NewScanner(r)
	sc.Buffer(make([]byte, 0, maxLine), maxLine)
	for sc.Scan() {
		line++
		text := sc.Text()
		if line == 1 {
			text = strings.TrimPrefix(text, "\ufeff")
		}
		e, err := parseLine(text)
		switch {
		case err != nil && len(errs) == maxFileErrors:
			return nil, errors.Join(append(errs, fmt.Errorf("%s: more lines are wrong", name))...)
		case err != nil:
			errs = append(errs, fmt.Errorf("%s:%d: %w", name, line, err))
		case e.Prefix.IsValid():
			e.Origin = fmt.Sprintf("%s:%d", name, line)
			entries = append(entries, e)
		}
	}
	if err := sc.Err(); errors.Is(err, bufio.ErrTooLong) {
		errs = append(errs, fmt.Errorf("%s:%d: the line is longer than %d bytes; a list has one address or prefix a line", name, line+1, maxLine))
	} else if err != nil {
		errs = append(errs, fmt.Errorf("%s:%d: read list: %w", name, line+1, err))
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return entries, nil
}

// parseLine returns the zero Entry for a line that holds none.
func parseLine(text string) (Entry, error) {
	text, comment, _ := strings.Cut(text, "#")
	text = strings.TrimSpace(text)
	if text == "" {
		return Entry{}, nil
	}
	if fields := strings.Fields(text); len(fields) > 1 {
		return Entry{}, fmt.Errorf("%.64q follows the prefix; put each prefix on its own line, and comments after a #", fields[1])
	}
	p, err := ParsePrefix(text)
	if err != nil {
		return Entry{}, err
	}
	return Entry{Prefix: p, Comment: strings.TrimSpace(comment)}, nil
}
