package scanner_test

import (
	"encoding/hex"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"sipward/policy/scanner"
)

// naive judges a message by reading the signatures one after the other.
func naive(signatures []scanner.Signature, m *scanner.Message) scanner.Match {
	fields := map[string]int{}
	combined, best := 0, scanner.Signature{}
	for _, s := range signatures {
		if s.Score == 0 || slices.ContainsFunc(s.Conditions, func(c scanner.Condition) bool { return naiveHolds(&c, m) == c.Not }) {
			continue
		}
		if s.Combination() {
			combined = max(combined, s.Score)
		} else {
			f := s.Conditions[0].Field
			fields[f] = max(fields[f], s.Score)
		}
		if s.Score > best.Score {
			best = s
		}
	}
	sum := combined
	for _, score := range fields {
		sum += score
	}
	return scanner.Match{Score: sum, Signature: best.ID, Sure: best.Score >= scanner.Threshold}
}

func naiveHolds(c *scanner.Condition, m *scanner.Message) bool {
	value := naiveValue(m, c.Field)
	switch c.Match {
	case "present":
		return value != ""
	case "absent":
		return value == ""
	}
	return slices.ContainsFunc(c.Values, func(want string) bool {
		v := value
		if c.Match == "shape" {
			return naiveShape(want, v)
		}
		if !c.ExactCase {
			v, want = asciiLower(v), asciiLower(want)
		}
		switch c.Match {
		case "equal":
			return v == want
		case "prefix":
			return strings.HasPrefix(v, want)
		case "suffix":
			return strings.HasSuffix(v, want)
		case "contains":
			return strings.Contains(v, want)
		}
		for i := 0; i+len(want) <= len(v); i++ {
			if v[i:i+len(want)] == want && !wordEnd(v[:i]) && !wordStart(v[i+len(want):]) {
				return true
			}
		}
		return false
	})
}

var (
	isBranch = regexp.MustCompile(`^z9hG4bK-(0|[1-9][0-9]{0,9})$`)
	isTag    = regexp.MustCompile(`^[ -~]+\x01[0-9]{5,10}$`)
	isNumber = regexp.MustCompile(`^[0-9]+$`)
	isWord   = regexp.MustCompile(`^[A-Za-z0-9_\x80-\xff]$`)
)

func wordEnd(s string) bool   { return s != "" && isWordByte(s[len(s)-1]) }
func wordStart(s string) bool { return s != "" && isWordByte(s[0]) }
func isWordByte(c byte) bool  { return c >= 0x80 || isWord.MatchString(string(rune(c))) }

func naiveShape(name, v string) bool {
	switch name {
	case "digits":
		return isNumber.MatchString(v)
	case "sipvicious-tag":
		data, err := hex.DecodeString(v)
		return err == nil && isTag.Match(data)
	case "bare-address":
		return len(v) > 1 && !strings.Contains(v, "<")
	case "uint32-branch":
		if !isBranch.MatchString(v) {
			return false
		}
		_, err := strconv.ParseUint(v[len("z9hG4bK-"):], 10, 32)
		return err == nil
	}
	return false
}

func asciiLower(s string) string {
	out := []byte(s)
	for i, c := range out {
		if c >= 'A' && c <= 'Z' {
			out[i] = c + 32
		}
	}
	return string(out)
}

func naiveValue(m *scanner.Message, field string) string {
	switch field {
	case "method":
		return string(m.Method)
	case "user-agent":
		return string(m.UserAgent)
	case "call-id":
		return string(m.CallID)
	case "via-branch":
		return string(m.ViaBranch)
	case "from-tag":
		return string(m.FromTag)
	case "contact-user":
		user, _ := naiveURI(string(m.Contact))
		return user
	case "contact-host":
		_, host := naiveURI(string(m.Contact))
		return host
	case "qop":
		return string(m.QOP)
	case "cnonce":
		return string(m.CNonce)
	case "challenge":
		switch {
		case !m.ChallengeKnown:
			return ""
		case m.ChallengeHadQOP:
			return "qop"
		}
		return "no-qop"
	}
	panic(field)
}

// naiveURI takes sip:user@host or sip:host apart.
func naiveURI(uri string) (user, host string) {
	rest, _ := strings.CutPrefix(uri, "sip:")
	if user, host, ok := strings.Cut(rest, "@"); ok {
		return user, host
	}
	return "", rest
}

// TestAgainstNaive compares the compiled set with the naive one, on signatures and
// messages of few different letters, so that they often meet.
func TestAgainstNaive(t *testing.T) {
	text := rapid.StringMatching(`[abAB -]{1,6}`)
	longer := rapid.StringMatching(`[abAB -]{3,6}`)
	condition := rapid.Custom(func(t *rapid.T) string {
		field := rapid.SampledFrom([]string{
			"method", "user-agent", "call-id", "via-branch", "from-tag", "contact-user", "contact-host", "qop", "cnonce", "challenge",
		}).Draw(t, "field")
		match := rapid.SampledFrom([]string{"equal", "prefix", "suffix", "contains", "token", "shape", "present", "absent"}).Draw(t, "match")
		c := "field: " + field + ", match: " + match
		switch match {
		case "present", "absent":
			return c
		case "shape":
			return c + ", value: " + rapid.SampledFrom([]string{"digits", "uint32-branch", "sipvicious-tag", "bare-address"}).Draw(t, "shape")
		case "contains":
			return fmt.Sprintf("%s, value: %q, exact_case: %t", c, longer.Draw(t, "value"), rapid.Bool().Draw(t, "exact"))
		}
		values := rapid.SliceOfN(text, 1, 4).Draw(t, "values")
		return fmt.Sprintf("%s, value: [%s], exact_case: %t", c, `"`+strings.Join(values, `", "`)+`"`, rapid.Bool().Draw(t, "exact"))
	})
	tag := rapid.Map(rapid.StringMatching(`[ -~]{0,3}\x01[0-9]{4,11}`), func(s string) string { return hex.EncodeToString([]byte(s)) })
	value := rapid.OneOf(tag, rapid.StringMatching(`[abAB -]{0,12}`), rapid.StringMatching(`([abAB -]{1,6}|[c-z]{1,6}){0,20}`), rapid.StringMatching(`(z9hG4bK-)?[0-9]{0,11}`), rapid.StringMatching(`[aé_<5 ]{0,4}[ab]{0,3}[aé_5 ]{0,3}`))
	part := rapid.StringMatching(`([abAB-]{0,3}@)?[abAB-]{0,6}`)
	rapid.Check(t, func(t *rapid.T) {
		var file strings.Builder
		file.WriteString("signatures:\n")
		for i := range rapid.IntRange(1, 12).Draw(t, "signatures") {
			score := rapid.IntRange(1, 100).Draw(t, "score")
			if rapid.Bool().Draw(t, "single") {
				fmt.Fprintf(&file, "- {id: s%d, score: %d, %s}\n", i, score, condition.Draw(t, "condition"))
				continue
			}
			fmt.Fprintf(&file, "- {id: s%d, score: %d, all: [{%s}", i, score, condition.Draw(t, "condition"))
			for range rapid.IntRange(1, 3).Draw(t, "more") {
				fmt.Fprintf(&file, ", {%s, not: %t}", condition.Draw(t, "condition"), rapid.Bool().Draw(t, "not"))
			}
			file.WriteString("]}\n")
		}
		set, err := scanner.Parse("t.yaml", []byte(file.String()))
		if err != nil {
			t.Fatalf("%v\n%s", err, file.String())
		}
		for range 20 {
			m := scanner.Message{Method: b(value.Draw(t, "method")), UserAgent: b(value.Draw(t, "agent")), CallID: b(value.Draw(t, "call-id")), ViaBranch: b(value.Draw(t, "branch"))}
			m.FromTag, m.Contact = b(value.Draw(t, "tag")), b("sip:"+part.Draw(t, "contact"))
			m.QOP, m.CNonce = b(part.Draw(t, "qop")), b(part.Draw(t, "cnonce"))
			m.ChallengeKnown, m.ChallengeHadQOP = rapid.Bool().Draw(t, "known"), rapid.Bool().Draw(t, "had qop")
			if got, want := set.Match(&m), naive(set.Signatures(), &m); got != want {
				t.Fatalf("%+v, not %+v: %q %q %q %q\n%s", got, want, m.Method, m.UserAgent, m.CallID, m.ViaBranch, file.String())
			}
		}
	})
}
