package admin

import (
	"bytes"
	"encoding"
	"flag"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"sipward/listsync/kernel"
	"sipward/notify"
	"sipward/report"
)

var update = flag.Bool("update", false, "write the schemas of openapi.yaml instead of comparing with them")

// described are the types that requests and answers have.
var described = []any{
	Status{}, Reloaded{}, entryList{}, quarantineList{}, BanPage{}, BanRequest{}, Banned{}, Unbanned{}, EntryRequest{}, EntryChange{},
	Explanation{}, TestRequest{}, SessionStatus{}, Event{}, BanChange{}, Lost{}, failure{},
	kernel.Status{}, notify.Status{}, notify.Tested{}, report.Report{}, Mailed{},
}

const schemasFollow = "-run TestOpenAPISchemas -update\n"

// TestOpenAPISchemas holds the schemas to the types that are sent.
func TestOpenAPISchemas(t *testing.T) {
	s := schemas{}
	for _, v := range described {
		s.of(reflect.TypeOf(v))
	}
	var want strings.Builder
	want.WriteString("  schemas:\n")
	for _, name := range slices.Sorted(maps.Keys(s)) {
		want.WriteString("    " + name + ":\n" + s[name])
	}
	head, got, ok := bytes.Cut(openAPI, []byte(schemasFollow))
	if !ok {
		t.Fatal("openapi.yaml does not say where the schemas begin")
	}
	if *update {
		if err := os.WriteFile("openapi.yaml", []byte(string(head)+schemasFollow+want.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if string(got) != want.String() {
		t.Error("the schemas of openapi.yaml are not those of the types; run go test ./admin -run TestOpenAPISchemas -update, then go test ./admin")
	}
}

// schemas holds the text of each by its name.
type schemas map[string]string

// of returns the schema of a type as YAML in one line.
func (s schemas) of(t reflect.Type) string {
	switch {
	case t == reflect.TypeFor[time.Time]():
		return "{type: string, format: date-time}"
	case t.Kind() == reflect.Pointer:
		return s.of(t.Elem())
	case t.Implements(reflect.TypeFor[encoding.TextMarshaler]()), t.Kind() == reflect.String:
		return "{type: string}"
	}
	switch t.Kind() {
	case reflect.Bool:
		return "{type: boolean}"
	case reflect.Float64:
		return "{type: number}"
	case reflect.Interface:
		return "{}"
	case reflect.Slice:
		return "{type: array, nullable: true, items: " + s.of(t.Elem()) + "}"
	case reflect.Map:
		return "{type: object, nullable: true, additionalProperties: " + s.of(t.Elem()) + "}"
	case reflect.Struct:
		return s.object(t)
	}
	if t.ConvertibleTo(reflect.TypeFor[int64]()) {
		return "{type: integer}"
	}
	panic(fmt.Sprint("no schema for ", t))
}

func (s schemas) object(t reflect.Type) string {
	name := t.Name()
	if pkg := t.PkgPath()[strings.LastIndexByte(t.PkgPath(), '/')+1:]; pkg != "admin" {
		name = pkg + name
	}
	ref := `{$ref: "#/components/schemas/` + name + `"}`
	if _, ok := s[name]; ok {
		return ref
	}
	s[name] = "" // it may be within itself
	var fields, required []string
	for _, f := range reflect.VisibleFields(t) {
		if f.Anonymous || !f.IsExported() {
			continue
		}
		tag, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if tag == "-" {
			continue
		}
		if tag == "" {
			tag = f.Name
		}
		if !strings.Contains(options, "omit") {
			required = append(required, tag)
		}
		fields = append(fields, "        "+tag+": "+s.of(f.Type)+"\n")
	}
	text := "      type: object\n"
	if len(required) > 0 {
		text += "      required: [" + strings.Join(required, ", ") + "]\n"
	}
	s[name] = text + "      properties:\n" + strings.Join(fields, "")
	return ref
}
