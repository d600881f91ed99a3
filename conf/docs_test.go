package conf_test

import (
	"bytes"
	"net/netip"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"

	"sipward/conf"
)

const (
	referenceFile = "../dist/sipward.reference.yaml"
	minimalFile   = "../dist/sipward.minimal.yaml"
	docFile       = "../docs/configuration.md"
)

func allKeys() []string {
	var names []string
	for _, k := range conf.KeyDocs() {
		names = append(names, k.Name)
	}
	slices.Sort(names)
	return names
}

// TestReferenceFileIsTheDefault holds the reference file to the code: every
// key is in it, no other, and each has its default.
func TestReferenceFileIsTheDefault(t *testing.T) {
	text := readFile(t, referenceFile)
	keys, err := conf.FileKeys(text)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range allKeys() { // items of a list that is empty by default stand in a comment
		section, name, isPart := strings.Cut(k, "[].")
		name, ofTLS := strings.CutPrefix(name, "tls.")
		if isPart && (section != "pbx" || ofTLS) && regexp.MustCompile(`(?m)^ +#  +(- )?`+name+`: `).Match(text) {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	if want := allKeys(); !slices.Equal(keys, want) {
		t.Errorf("the reference file has the keys\n%q\nwant\n%q", keys, want)
	}
	c, err := conf.Load(referenceFile, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, ch := range conf.Diff(conf.Default(), c) {
		if ch.Key != "pbx" {
			t.Errorf("the reference file does not show the default: %s", ch)
		}
	}
}

// TestReferenceFileExplainsEachKey wants a comment above every key, or above
// the keys that it stands together with.
func TestReferenceFileExplainsEachKey(t *testing.T) {
	explained := false
	for i, line := range strings.Split(string(readFile(t, referenceFile)), "\n") {
		text := strings.TrimSpace(line)
		switch {
		case text == "":
			explained = false
		case strings.Contains(text, "#"), strings.HasSuffix(text, ":"):
			explained = true
		case !explained:
			t.Errorf("line %d is not explained: %s", i+1, line)
		}
	}
}

func TestMinimalFileDiffersInThePBXOnly(t *testing.T) {
	c, err := conf.Load(minimalFile, nil)
	if err != nil {
		t.Fatal(err)
	}
	if ch := conf.Diff(conf.Default(), c); len(ch) != 1 || ch[0].Key != "pbx" {
		t.Errorf("differs from the default in %v", ch)
	}
}

var docRow = regexp.MustCompile("^\\| `([^`]+)` \\|(.*)\\|$")

// TestDocumentationListsEachKey compares the tables with the code.
func TestDocumentationListsEachKey(t *testing.T) {
	rows := map[string][]string{}
	for _, line := range strings.Split(string(readFile(t, docFile)), "\n") {
		m := docRow.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		if rows[m[1]] != nil {
			t.Errorf("%s is listed twice", m[1])
		}
		for _, cell := range strings.Split(m[2], "|") {
			rows[m[1]] = append(rows[m[1]], strings.TrimSpace(strings.ReplaceAll(cell, "`", "")))
		}
	}
	for _, k := range conf.KeyDocs() {
		when, variable := "reload", k.Variable
		if k.Restart {
			when = "restart"
		}
		if k.Part {
			variable = "in " + variable
		}
		row := rows[k.Name]
		delete(rows, k.Name)
		if len(row) != 6 {
			t.Errorf("%s has %d columns after the key, want type, default, unit, meaning, in force after, environment", k.Name, len(row))
			continue
		}
		if row[2] == "" || row[3] == "" {
			t.Errorf("%s lacks a unit or a meaning", k.Name)
		}
		got := []string{row[0], row[1], row[4], row[5]}
		if want := []string{k.Type, k.Default, when, variable}; !slices.Equal(got, want) {
			t.Errorf("%s is documented as\n%q\nwant\n%q", k.Name, got, want)
		}
	}
	for name := range rows {
		t.Errorf("%s is documented, but there is no such key", name)
	}
}

// TestDocumentationSnippets reads every YAML example, with a PBX where it
// shows none.
func TestDocumentationSnippets(t *testing.T) {
	var parts [][]byte
	for _, file := range []string{docFile, "../docs/transparent.md", "../docs/reports.md", "../docs/installation.md", "../docs/migration.md", "../docs/transports.md"} {
		parts = append(parts, bytes.Split(readFile(t, file), []byte("```yaml\n"))[1:]...)
	}
	if len(parts) < 6 {
		t.Fatalf("%d examples, want some", len(parts))
	}
	for _, part := range parts {
		snippet, _, _ := bytes.Cut(part, []byte("```"))
		if !bytes.Contains(snippet, []byte("pbx:")) {
			snippet = append(bytes.Clone(snippet), minimal...)
		}
		if _, err := conf.Parse("example.yaml", snippet, nil); err != nil {
			t.Errorf("%v\n%s", err, snippet)
		}
	}
}

// TestDocumentedComplaints holds the examples of complaints to what is said.
func TestDocumentedComplaints(t *testing.T) {
	want := strings.ReplaceAll(string(readFile(t, "testdata/wrong/documented.txt")), "documented.yaml", "sipward.yaml")
	if !strings.Contains(string(readFile(t, docFile)), "```\n"+want+"```\n") {
		t.Errorf("the documentation does not show\n%s", want)
	}
}

// TestEachFieldHasAKey walks the typed configuration: a field that no key sets
// would be a setting that nobody can change.
func TestEachFieldHasAKey(t *testing.T) {
	items := []reflect.Type{reflect.TypeFor[conf.PBX](), reflect.TypeFor[conf.NotifyChannel](), reflect.TypeFor[conf.NotifyRule](), reflect.TypeFor[conf.ReportSchedule](), reflect.TypeFor[conf.Certificate]()}
	var fields []string
	var walk func(prefix string, typ reflect.Type)
	walk = func(prefix string, typ reflect.Type) {
		for i := range typ.NumField() {
			f := typ.Field(i)
			name := prefix + snake(f.Name)
			switch {
			case name == "listen.outside_is_default", !f.IsExported():
				// Says something about a key, is none.
			case f.Type == reflect.TypeFor[netip.AddrPort](), f.Type == reflect.TypeFor[conf.Action]():
				fields = append(fields, name)
			case f.Type.Kind() == reflect.Struct:
				walk(name+".", f.Type)
			case f.Type.Kind() == reflect.Slice && slices.Contains(items, f.Type.Elem()):
				fields = append(fields, name)
				walk(name+"[].", f.Type.Elem())
			default:
				fields = append(fields, name)
			}
		}
	}
	walk("", reflect.TypeFor[conf.Config]())
	slices.Sort(fields)
	if want := allKeys(); !slices.Equal(fields, want) {
		t.Errorf("the fields are\n%q\nthe keys\n%q", fields, want)
	}
}

// snake spells a field as the file does: MaxPerSource is max_per_source.
func snake(field string) string {
	switch field {
	case "PBX", "TCP", "UDP", "TFTP", "DNS", "TLS", "URL", "CA", "ACME", "DTLS", "WebSocket":
		return strings.ToLower(field)
	case "DNSProtection":
		return "dns_protection"
	case "CAFile":
		return "ca_file"
	case "ClientCA":
		return "client_ca"
	case "TrunkCA":
		return "trunk_ca"
	case "IPv6SourcePrefix":
		return "ipv6_source_prefix"
	}
	var b strings.Builder
	for i, c := range field {
		if unicode.IsUpper(c) && i > 0 {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(c))
	}
	return b.String()
}

func readFile(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
