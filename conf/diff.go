package conf

import (
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"
)

// Change is a key whose value differs between two configurations.
type Change struct {
	// Key is the dotted path.
	Key string
	// Old and New are the values as people write them.
	Old, New string
	// Restart says that the new value is used only after a restart; otherwise a
	// reload is enough.
	Restart bool
}

func (c Change) String() string { return c.Key + ": " + c.Old + " → " + c.New }

// Diff returns what changed from one configuration to the next, in the order
// of the reference file. What is in the files of lists.allow_files and
// lists.deny_files is not compared.
func Diff(old, new *Config) []Change {
	var changes []Change
	for _, k := range schema() {
		a, b := k.value(old), k.value(new)
		if equal(a, b) {
			continue
		}
		changes = append(changes, Change{Key: k.name, Old: k.show(a), New: k.show(b), Restart: k.restart})
	}
	return changes
}

// equal treats an empty list and no list alike.
func equal(a, b any) bool {
	va, vb := reflect.ValueOf(a), reflect.ValueOf(b)
	if k := va.Kind(); (k == reflect.Slice || k == reflect.Map) && va.Len() == 0 && vb.Len() == 0 {
		return true
	}
	return reflect.DeepEqual(a, b)
}

// show writes a value of the key as people do.
func (k key) show(v any) string {
	if n, ok := v.(int); ok && strings.HasPrefix(k.typ, "size ") {
		return showSize(n)
	}
	return show(v)
}

func show(v any) string {
	switch v := v.(type) {
	case string:
		if v == "" {
			return `""`
		}
		return v
	case time.Duration:
		return showDuration(v)
	case fs.FileMode:
		return fmt.Sprintf("%#o", uint32(v))
	case slog.Level:
		return strings.ToLower(v.String())
	case netip.AddrPort:
		if !v.IsValid() {
			return `""`
		}
		return v.String()
	}
	rv := reflect.ValueOf(v)
	var items []string
	switch rv.Kind() {
	case reflect.Slice:
		for i := range rv.Len() {
			items = append(items, show(rv.Index(i).Interface()))
		}
		return "[" + strings.Join(items, ", ") + "]"
	case reflect.Map:
		for _, key := range rv.MapKeys() {
			items = append(items, show(key.Interface())+": "+show(rv.MapIndex(key).Interface()))
		}
		slices.Sort(items)
		return "{" + strings.Join(items, ", ") + "}"
	}
	return fmt.Sprint(v)
}
