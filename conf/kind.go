package conf

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"unicode"
)

// kind says how one type of value is written, and reads it.
type kind[T any] struct {
	// name is what the documentation calls it.
	name  string
	shape shape
	// parts are the keys of an item, for a list of sections.
	parts []part
	// read reports what is wrong with n, and then returns any value.
	read func(d *decoder, key string, n *node) T
}

// part is a key inside an item, or in a section of it.
type part struct {
	name, typ, def string
	list           bool
}

// decoder reads the values of one configuration.
type decoder struct {
	*report
	// dir is the folder that relative paths start from.
	dir string
	// values holds what was written, by key; bad the keys that have a problem.
	values map[string]*node
	bad    map[string]bool
}

// clean says that the keys were read without a problem, so that looking at them
// together makes sense.
func (d *decoder) clean(keys ...string) bool {
	for _, k := range keys {
		if d.bad[k] {
			return false
		}
	}
	return true
}

// scalar makes a kind of what is written as one value.
func scalar[T any](name string, parse func(text string) (T, error)) kind[T] {
	return kind[T]{name: name, shape: shapeScalar, read: func(d *decoder, key string, n *node) T {
		var zero T
		switch n.shape {
		case shapeNull:
			d.fail(n.at, key, "the key has no value; write one (%s), or remove the key", name)
			return zero
		case shapeList, shapeMap:
			d.fail(n.at, key, "this is %s where one value belongs; write %s", n.shape, name)
			return zero
		}
		v, err := parse(n.text)
		if err != nil {
			d.fail(n.at, key, "%v", err)
		}
		return v
	}}
}

// listOf makes a kind of any number of items. A key without a value is an
// empty list, because that is what remains when every item is commented out.
func listOf[T any](name string, item kind[T]) kind[[]T] {
	return kind[[]T]{name: name, shape: shapeList, parts: item.parts, read: func(d *decoder, key string, n *node) []T {
		switch n.shape {
		case shapeScalar:
			d.fail(n.at, key, "this is one value where a list belongs; write [%s]", quote(n.text))
		case shapeMap:
			d.fail(n.at, key, `this is %s where a list belongs; begin each item with "- "`, n.shape)
		}
		var list []T
		for i, it := range n.items {
			list = append(list, item.read(d, itemKey(key, i), it))
		}
		return list
	}}
}

// itemKey names an item of a list in messages.
func itemKey(key string, i int) string { return key + "[" + strconv.Itoa(i) + "]" }

// choice is one word that a key accepts.
type choice[T any] struct {
	word  string
	value T
}

// oneOf makes a kind of a closed set of words. The later ones are those that
// the design promises and this version does not have.
func oneOf[T any](later []string, choices ...choice[T]) kind[T] {
	words := make([]string, len(choices))
	for i, c := range choices {
		words[i] = c.word
	}
	name := "one of " + strings.Join(words, ", ")
	if len(words) == 1 {
		name = words[0]
	}
	return scalar(name, func(text string) (T, error) {
		var zero T
		for _, c := range choices {
			if c.word == text {
				return c.value, nil
			}
		}
		for _, w := range later {
			if w == text {
				return zero, fmt.Errorf("%q is not in this version; write %s", text, name)
			}
		}
		return zero, fmt.Errorf("%s is not known here; write %s", quote(text), name)
	})
}

func trueOrFalse() kind[bool] {
	return scalar("true or false", func(text string) (bool, error) {
		switch text {
		case "true", "false":
			return text == "true", nil
		}
		return false, fmt.Errorf("%s is not true or false; write true or false", quote(text))
	})
}

var wholeNumberForm = regexp.MustCompile(`^(0|-?[1-9][0-9]*)$`)

func wholeNumber(lowest, highest int) kind[int] {
	name := fmt.Sprintf("whole number %d to %d", lowest, highest)
	return scalar(name, func(text string) (int, error) {
		if !wholeNumberForm.MatchString(text) {
			return 0, fmt.Errorf("%s is not a whole number; write digits only, %d to %d", quote(text), lowest, highest)
		}
		n, err := strconv.Atoi(text)
		if err != nil || n < lowest || n > highest {
			return 0, fmt.Errorf("%s is out of range; write %d to %d", shorten(text), lowest, highest)
		}
		return n, nil
	})
}

// path reads the name of a file or folder. A relative one starts from the
// folder of the configuration file, so that it means the same wherever sipward
// was started.
func path(name string) kind[string] {
	k := scalar(name, func(text string) (string, error) {
		if text == "" {
			return "", errors.New("the path is empty; write one, or remove the key")
		}
		if i := strings.IndexFunc(text, unicode.IsControl); i >= 0 {
			return "", fmt.Errorf("%s has a line break or a control character in it; remove it", quote(text))
		}
		return text, nil
	})
	read := k.read
	k.read = func(d *decoder, key string, n *node) string {
		p := read(d, key, n)
		if p != "" && !filepath.IsAbs(p) {
			p = filepath.Join(d.dir, p)
		}
		return p
	}
	return k
}

var fileModeForm = regexp.MustCompile(`^(0o?)?[0-7]{3}$`)

// fileMode reads permission bits, which are octal however they are written.
func fileMode() kind[fs.FileMode] {
	return scalar("file mode", func(text string) (fs.FileMode, error) {
		if !fileModeForm.MatchString(text) {
			return 0, fmt.Errorf("%s is not a file mode; write three octal digits, such as 0660", quote(text))
		}
		n, err := strconv.ParseUint(text[len(text)-3:], 8, 32)
		switch mode := fs.FileMode(n); {
		case err != nil:
			return 0, err
		case mode&0o007 != 0:
			return 0, fmt.Errorf("%s lets every user of this machine in, who could then lift bans; end it in 0 and use control.group", text)
		case mode&0o600 != 0o600:
			return 0, fmt.Errorf("%s keeps sipward itself out; begin it with 6 or 7, such as 0660", text)
		default:
			return mode, nil
		}
	})
}

var groupForm = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}$`)

// group reads the name or number of a group of the system; whether there is
// one is seen when the socket is made.
func group() kind[string] {
	return scalar("name or number of a group", func(text string) (string, error) {
		if text != "" && !groupForm.MatchString(text) {
			return "", fmt.Errorf("%s is not the name of a group; write one that `getent group` lists", quote(text))
		}
		return text, nil
	})
}

var interfaceForm = regexp.MustCompile(`^[^\s/"*\pC]{1,15}$`)

// interfaceRule allows what Linux allows (dev_valid_name), but for what nftables takes for
// a pattern or the end of a string.
func interfaceRule(text string) error {
	if !interfaceForm.MatchString(text) || text == "." || text == ".." || text == "lo" {
		return fmt.Errorf("%s is not the name of an interface; write one that `ip link` lists, but not lo", quote(text))
	}
	return nil
}

var markForm = regexp.MustCompile(`^(0x[0-9a-fA-F]{1,8}|[1-9][0-9]{0,9})$`)

// mark reads the mark of a packet.
func mark() kind[uint32] {
	return scalar("packet mark 0x1 to 0xffffffff", func(text string) (uint32, error) {
		n, err := strconv.ParseUint(text, 0, 32)
		if !markForm.MatchString(text) || err != nil || n == 0 {
			return 0, fmt.Errorf("%s is not a packet mark; write one from 0x1 to 0xffffffff that no other rule of this machine uses", quote(text))
		}
		return uint32(n), nil
	})
}

// word reads one piece of text that a rule allows.
func word(name string, rule func(text string) error) kind[string] {
	return scalar(name, func(text string) (string, error) { return text, rule(text) })
}

var signatureForm = regexp.MustCompile(`^[a-z0-9-]{1,64}$`)

// signatureRule allows what a signature may be called; whether there is such a one is
// seen when the signatures are read.
func signatureRule(text string) error {
	if !signatureForm.MatchString(text) {
		return fmt.Errorf("%s is not the id of a signature; write small letters, digits and hyphens, as `sipward explain` shows it", quote(text))
	}
	return nil
}

// userRule allows what may stand before the host in a SIP URI, and a domain
// behind it (RFC 3261 §25.1: user, escaped characters left out).
func userRule(text string) error {
	user, domain, at := strings.Cut(text, "@")
	switch {
	case strings.HasPrefix(text, "sip:"), strings.HasPrefix(text, "sips:"), strings.HasPrefix(text, "tel:"):
		_, rest, _ := strings.Cut(text, ":")
		return fmt.Errorf("%s has a scheme; write %s alone", quote(text), shorten(rest))
	case user == "" || len(text) > 255 || strings.ContainsFunc(user, notInUser):
		return fmt.Errorf("%s is not a user name or number; write what stands before the @ of a SIP address, such as admin or 900441234", quote(text))
	case at && !validHost(domain) && !validAddr(domain):
		return fmt.Errorf("%s does not end in a domain; write it as admin@example.com, or without the @ for every domain", quote(text))
	}
	return nil
}

// numberRule allows what may be called.
func numberRule(text string) error {
	if number, _, at := strings.Cut(text, "@"); at {
		return fmt.Errorf("%s has a domain; write %s alone", quote(text), shorten(number))
	}
	return userRule(text)
}

func notInUser(c rune) bool {
	letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
	return !letter && !strings.ContainsRune("-_.!~*'()&=+$,;?/#", c)
}

func validAddr(text string) bool {
	_, err := parseAddr(strings.Trim(text, "[]"))
	return err == nil
}

// shorten cuts what is known to be harmless text.
func shorten(s string) string {
	if len(s) > quoteMax {
		return s[:quoteMax] + "…"
	}
	return s
}
