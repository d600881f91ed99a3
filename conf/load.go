package conf

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/knadh/koanf/maps"
	"github.com/knadh/koanf/v2"
)

// Load reads the configuration file at path; environ is the environment as
// os.Environ returns it. An error about what is in the file is an Errors.
func Load(path string, environ []string) (*Config, error) {
	name := path
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("find %s: %w", name, err)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	defer f.Close()
	// One byte more than the limit is enough to see that it is exceeded.
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	return parse(name, filepath.Dir(path), text, environ)
}

// Parse reads a configuration from memory. The name stands in messages, and
// its folder is where relative paths start.
func Parse(name string, yaml []byte, environ []string) (*Config, error) {
	return parse(name, filepath.Dir(name), yaml, environ)
}

// Default returns the configuration of an empty file: complete but for the
// PBX, for which there is no default.
func Default() *Config {
	keys := schema()
	d := &decoder{report: &report{file: "default"}, values: defaults(keys), bad: map[string]bool{}}
	c := d.decode(keys)
	if len(d.problems) > 0 {
		panic(d.problems) // a mistake in schema(), which the tests rule out
	}
	return c
}

func parse(name, dir string, text []byte, environ []string) (*Config, error) {
	keys := schema()
	rep := &report{file: name}
	root := readYAML(rep, text)
	if root == nil {
		return nil, rep.err()
	}
	merged, err := merge(defaults(keys), flatten(rep, keys, root), readEnvironment(rep, keys, environ))
	if err != nil {
		return nil, err
	}
	d := &decoder{report: rep, dir: dir, values: merged, bad: map[string]bool{}}
	c := d.decode(keys)
	c.file, c.values = name, merged
	d.check(c)
	if err := rep.err(); err != nil {
		return nil, err
	}
	return c, nil
}

// defaults returns the default of every key that has one.
func defaults(keys []key) map[string]*node {
	var text strings.Builder
	for _, k := range keys {
		if k.def != "" {
			fmt.Fprintf(&text, "%s: %s\n", k.name, k.def)
		}
	}
	values := map[string]*node{}
	for _, f := range readYAML(&report{}, []byte(text.String())).fields {
		values[f.name] = f.value.withoutOrigin()
	}
	return values
}

// flatten finds the keys in the file, and the names that are none.
func flatten(rep *report, keys []key, root *node) map[string]*node {
	known := outline(keys)
	values := map[string]*node{}
	var section func(name string, n *node)
	section = func(name string, n *node) {
		for _, f := range n.fields {
			path := join(name, f.name)
			names, isSection := known[path]
			switch {
			case !slices.Contains(known[name], f.name):
				rep.fail(f.at, path, "unknown key; %s", suggestKey(keys, known[name], f.name))
			case !isSection:
				values[path] = f.value
			case f.value.shape == shapeMap:
				section(path, f.value)
			case f.value.shape != shapeNull:
				rep.fail(f.value.at, path, "this is %s where a section belongs; its keys are %s", f.value.shape, strings.Join(names, ", "))
			}
		}
	}
	section("", root)
	return values
}

// outline returns the names in each section; that of the file is called "".
func outline(keys []key) map[string][]string {
	known := map[string][]string{}
	for _, k := range keys {
		section := ""
		for name := range strings.SplitSeq(k.name, ".") {
			if !slices.Contains(known[section], name) {
				known[section] = append(known[section], name)
			}
			section = join(section, name)
		}
	}
	return known
}

// suggestKey looks in the section first, and then for the same name elsewhere.
func suggestKey(keys []key, siblings []string, name string) string {
	if nearest(name, siblings) == "" {
		for _, k := range keys {
			if k.name == name || strings.HasSuffix(k.name, "."+name) {
				return "did you mean " + k.name + "?"
			}
		}
	}
	return suggest(name, siblings)
}

// merge lays the later values over the earlier ones. What is merged are indexes
// into the nodes, because the origin of a value has to survive.
func merge(layers ...map[string]*node) (map[string]*node, error) {
	k := koanf.New(".")
	var nodes []*node
	for _, l := range layers {
		flat := map[string]any{}
		for name, n := range l {
			flat[name] = len(nodes)
			nodes = append(nodes, n)
		}
		if err := k.Load(layer(flat), nil); err != nil {
			return nil, fmt.Errorf("merge configuration: %w", err)
		}
	}
	merged := map[string]*node{}
	for name, i := range k.All() {
		merged[name] = nodes[i.(int)]
	}
	return merged, nil
}

// layer is a koanf.Provider of flat keys.
type layer map[string]any

var _ koanf.Provider = layer(nil)

// Read returns the keys as nested maps.
func (l layer) Read() (map[string]any, error) { return maps.Unflatten(l, "."), nil }

// ReadBytes is not used: there are no bytes to parse.
func (l layer) ReadBytes() ([]byte, error) { return nil, errors.ErrUnsupported }

// decode reads every value.
func (d *decoder) decode(keys []key) *Config {
	c := &Config{}
	for _, k := range keys {
		n, ok := d.values[k.name]
		if !ok {
			continue
		}
		before := len(d.problems)
		k.read(d, c, n)
		d.bad[k.name] = len(d.problems) > before
	}
	c.Listen.OutsideIsDefault = d.values["listen.outside"].at.isDefault()
	if c.TokenKeyFile == "" {
		c.TokenKeyFile = filepath.Join(c.StateDir, "token.key")
	}
	if c.Scanner.BlockTime == 0 {
		c.Scanner.BlockTime = c.Register.BlockTime
	}
	return c
}
