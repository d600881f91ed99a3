package main

import (
	"bytes"
	"io"
	"os"
	"strings"
	"unicode"

	"golang.org/x/term"
)

// colours reports whether what is written to out may have colours: it is a terminal, and
// nobody has asked for none (no-color.org).
func colours(out io.Writer) bool {
	f, ok := out.(*os.File)
	return ok && term.IsTerminal(int(f.Fd())) && os.Getenv("NO_COLOR") == ""
}

// forPeople returns a writer that makes what matters stand out, if out is a terminal.
// What is written must end with the end of a line.
func forPeople(out io.Writer) io.Writer {
	if !colours(out) {
		return out
	}
	return &painter{out: out}
}

// painter colours lines. What it writes has the same letters as what it is given.
type painter struct {
	out  io.Writer
	part []byte // of a line
}

// Write implements io.Writer.
func (p *painter) Write(b []byte) (int, error) {
	p.part = append(p.part, b...)
	for {
		line, rest, whole := bytes.Cut(p.part, []byte("\n"))
		if !whole {
			return len(b), nil
		}
		text := string(line)
		if c := lineColour(text); c != "" {
			text = "\x1b[" + c + "m" + text + "\x1b[0m"
		}
		if _, err := io.WriteString(p.out, text+"\n"); err != nil {
			return 0, err
		}
		p.part = rest
	}
}

// lineColour is red for what is wrong or shut out, yellow for what somebody should know, and
// green for who is let in.
func lineColour(line string) string {
	label, _, _ := strings.Cut(line, " ")
	loud := len(label) > 3 && !strings.ContainsFunc(label, func(c rune) bool { return !unicode.IsUpper(c) })
	switch {
	case loud, label == "pbx" && strings.Contains(line, "  DOWN: "), strings.Contains(line, " DROPPED ("):
		return red
	case label == "notice", label == "quarantine", label == "attacked":
		return yellow
	case strings.Contains(line, " let in ("):
		return green
	}
	return ""
}
