package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"
)

var (
	codeBlock = regexp.MustCompile("(?ms)^ *```.*?^ *```")
	codeSpan  = regexp.MustCompile("`[^`\n]*`")
	mdLink    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	mdHeading = regexp.MustCompile(`(?m)^#+ +(.*)$`)
)

// anchors returns what a link may have behind its # to lead to a heading of the page, as
// GitHub makes it: small letters, hyphens for spaces, and no punctuation.
func anchors(page string) map[string]bool {
	all := map[string]bool{}
	for _, m := range mdHeading.FindAllStringSubmatch(codeBlock.ReplaceAllString(page, ""), -1) {
		all[strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-', r == '_', unicode.IsLetter(r), unicode.IsDigit(r):
				return unicode.ToLower(r)
			}
			return -1
		}, m[1])] = true
	}
	return all
}

// TestLinks follows every link of the documentation within the repository, to the file
// and to the heading in it, and wants each page to be found from the README.
func TestLinks(t *testing.T) {
	const root = "../.."
	pages, err := filepath.Glob(root + "/docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	unfound := map[string]bool{}
	for _, p := range pages {
		unfound[filepath.Clean(p)] = true
	}
	read := func(path string) string {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	links := 0
	for _, page := range append(pages, root+"/README.md", root+"/CHANGELOG.md") {
		text := codeSpan.ReplaceAllString(codeBlock.ReplaceAllString(read(page), ""), "code")
		for _, m := range mdLink.FindAllStringSubmatch(text, -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			links++
			path, anchor, _ := strings.Cut(m[1], "#")
			target := page
			if path != "" {
				target = filepath.Join(filepath.Dir(page), path)
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: the link to %s leads nowhere", page, m[1])
				continue
			}
			if anchor != "" && !anchors(read(target))[anchor] {
				t.Errorf("%s: %s has no heading %q", page, target, anchor)
			}
			if page == root+"/README.md" {
				delete(unfound, filepath.Clean(target))
			}
		}
	}
	if links < 50 {
		t.Errorf("%d links were found, want more than 50", links)
	}
	for page := range unfound {
		t.Errorf("README.md has no link to %s", page)
	}
}
