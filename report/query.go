package report

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"sipward/policy"
	"sipward/policy/event"
	"sipward/policy/iplist"
)

// The dimensions that messages and acts can be grouped by. Those of time group by
// minute, hour and day of the local clock; ByTime chooses by the length of the range.
const (
	ByTime      = "time"
	ByMinute    = "minute"
	ByHour      = "hour"
	ByDay       = "day"
	BySource    = "source"
	ByAccount   = "account"
	ByGuard     = "guard"
	ByReason    = "reason"
	ByMethod    = "method"
	ByAction    = "action"
	ByProtocol  = "protocol"
	ByNode      = "node"
	ByDirection = "direction"
)

// Dimensions returns the names of all dimensions.
func Dimensions() []string {
	return []string{BySource, ByAccount, ByGuard, ByReason, ByMethod, ByAction, ByProtocol, ByNode, ByDirection, ByTime, ByMinute, ByHour, ByDay}
}

// Limits of a Query.
const (
	MaxBy      = 4 // dimensions
	MaxTop     = 10_000
	DefaultTop = 20
	maxValues  = 100 // of one filter
)

// Query is a question to the journal. Of each filter any value matches; an empty one
// matches all.
type Query struct {
	From, To time.Time // To is not part of the range; both are whole minutes
	By       []string  // dimensions, at most MaxBy
	Sources  []netip.Prefix
	// Accounts match whole; one without an @ matches the part before it.
	Accounts                                                        []string
	Guards, Reasons, Methods, Actions, Protocols, Nodes, Directions []string

	Top  int  // groups, or acts, at most
	Acts bool // list the acts one by one, the latest first, instead of groups
}

// ParseQuery reads a query from the parameters of a request: last, or from and to; by,
// source, account, guard, reason, method, action, protocol, node and direction, each a
// list separated by commas or given several times; top; acts. Without a range it is the
// last 24 hours. Errors say what to write.
func ParseQuery(values url.Values, now time.Time) (Query, error) {
	q := Query{Top: DefaultTop}
	for name := range values {
		if !slices.Contains(parameters, name) {
			return q, fmt.Errorf("%.40q is no parameter of a report; there are %s", name, strings.Join(parameters, ", "))
		}
	}
	err := q.parseRange(values, now)
	if err != nil {
		return q, err
	}
	list := func(name string, known []string) []string {
		var all []string
		for _, text := range values[name] {
			for word := range strings.SplitSeq(text, ",") {
				if word = strings.TrimSpace(word); word == "" {
					continue
				}
				if known != nil && !slices.Contains(known, word) && err == nil {
					err = fmt.Errorf("%s: %.40q is not known here; there are %s", name, word, strings.Join(known, ", "))
				}
				all = append(all, word)
			}
		}
		if len(all) > maxValues && err == nil {
			err = fmt.Errorf("%s: at most %d values", name, maxValues)
		}
		return all
	}
	q.By = list("by", Dimensions())
	q.Accounts, q.Guards, q.Reasons = list("account", nil), list("guard", guardWords()), list("reason", policy.ReasonWords())
	q.Methods, q.Actions, q.Nodes = list("method", nil), list("action", Actions()), list("node", nil)
	q.Protocols = list("protocol", []string{event.SIP.String(), event.TFTP.String(), event.DNS.String()})
	q.Directions = list("direction", []string{event.FromOutside.String(), event.FromPBX.String()})
	for _, text := range list("source", nil) {
		p, bad := iplist.ParsePrefix(text)
		if bad != nil && err == nil {
			err = fmt.Errorf("source: %w", bad)
		}
		q.Sources = append(q.Sources, p)
	}
	if err != nil {
		return q, err
	}
	return q, q.parseRest(values)
}

var parameters = []string{"last", "from", "to", "by", "source", "account", "guard", "reason", "method", "action", "protocol", "node", "direction", "top", "acts"}

func (q *Query) parseRest(values url.Values) error {
	switch acts := values.Get("acts"); acts {
	case "", "false":
	case "true":
		q.Acts = true
	default:
		return fmt.Errorf("acts: %.40q is not true or false", acts)
	}
	if q.Acts && len(q.By) > 0 {
		return errors.New("acts are listed one by one; leave out by, or acts")
	}
	if len(q.By) > MaxBy {
		return fmt.Errorf("by: at most %d at once", MaxBy)
	}
	times := 0
	for i, d := range q.By {
		if slices.Contains(q.By[:i], d) {
			return fmt.Errorf("by: %s is written twice", d)
		}
		if isTime(d) {
			times++
		}
	}
	if times > 1 {
		return errors.New("by: write one of time, minute, hour and day")
	}
	if q.Acts || times > 0 {
		q.Top = MaxTop
	}
	if text := values.Get("top"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > MaxTop {
			return fmt.Errorf("top: %.40q is not a number from 1 to %d", text, MaxTop)
		}
		q.Top = n
	}
	return nil
}

func isTime(dimension string) bool {
	return slices.Contains([]string{ByTime, ByMinute, ByHour, ByDay}, dimension)
}

// guardWords returns the names of the guards, and what bans by command have instead.
func guardWords() []string {
	all := []string{string(ActionCommand)}
	for r := range policy.NumReasons {
		if g := policy.Reason(r).Guard(); g != "" && !slices.Contains(all, g) {
			all = append(all, g)
		}
	}
	return all
}

func (q *Query) parseRange(values url.Values, now time.Time) error {
	last, from, to := values.Get("last"), values.Get("from"), values.Get("to")
	switch {
	case last != "" && from+to != "":
		return errors.New("last and from or to exclude each other; write one of them")
	case from == "" && to != "":
		return errors.New("to needs from; write both, or from alone for everything since")
	case from == "":
		if last == "" {
			last = "24h"
		}
		d, err := ParseSpan(last)
		if err != nil {
			return fmt.Errorf("last: %w", err)
		}
		q.From, q.To = now.Add(-d), now
	default:
		var err error
		if q.From, err = ParseTime(from, now.Location()); err != nil {
			return fmt.Errorf("from: %w", err)
		}
		q.To = now
		if to != "" {
			if q.To, err = ParseTime(to, now.Location()); err != nil {
				return fmt.Errorf("to: %w", err)
			}
		}
		for i, t := range []time.Time{q.From, q.To} { // what is further away has no Unix time in nanoseconds
			if now.Sub(t).Abs() > maxSpan+time.Hour { // from was up to ten years ago when it was sent
				return fmt.Errorf("%s: %s is more than ten years from now", []string{"from", "to"}[i], t.Format(time.DateOnly))
			}
		}
		if to == "" && !q.From.Before(now) {
			return fmt.Errorf("from %s has not come yet; write a time in the past", q.From.Format(time.DateTime))
		}
		if !q.From.Before(q.To) {
			return fmt.Errorf("from %s is not before to %s; exchange them", q.From.Format(time.DateTime), q.To.Format(time.DateTime))
		}
	}
	q.From = q.From.Truncate(time.Minute)
	if t := q.To.Truncate(time.Minute); t.Before(q.To) {
		q.To = t.Add(time.Minute)
	}
	return nil
}

// maxSpan is how far from now the range of a query may reach.
const maxSpan = 10 * 366 * 24 * time.Hour

var spanForm = regexp.MustCompile(`^(?:last )?([1-9][0-9]{0,5}) ?(m|h|d|w)$`)

// ParseSpan reads how long before now a range begins: "90m", "24h", "7d", "2w", with or
// without "last " before it.
func ParseSpan(text string) (time.Duration, error) {
	m := spanForm.FindStringSubmatch(text)
	if m == nil {
		return 0, fmt.Errorf("%.40q is not a time; write a number and m, h, d or w, such as 90m, 24h or 7d", text)
	}
	n, err := strconv.Atoi(m[1])
	if err != nil {
		return 0, err
	}
	unit := map[string]time.Duration{"m": time.Minute, "h": time.Hour, "d": 24 * time.Hour, "w": 7 * 24 * time.Hour}[m[2]]
	if time.Duration(n) <= maxSpan/unit {
		return time.Duration(n) * unit, nil
	}
	return 0, fmt.Errorf("%s is more than ten years", text)
}

// ParseTime reads an RFC 3339 time, or a date with or without a time of day of loc.
func ParseTime(text string, loc *time.Location) (time.Time, error) {
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t.In(loc), nil
	}
	for _, layout := range []string{time.DateOnly, "2006-01-02 15:04", time.DateTime} {
		if t, err := time.ParseInLocation(layout, text, loc); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf(`%.40q is not a time; write a date such as 2006-01-02, "2006-01-02 15:04", or RFC 3339 such as 2006-01-02T15:04:05Z`, text)
}

// Values returns the parameters that ParseQuery reads as q, with an absolute range.
func (q *Query) Values() url.Values {
	v := url.Values{"from": {q.From.Format(time.RFC3339)}, "to": {q.To.Format(time.RFC3339)}, "top": {strconv.Itoa(q.Top)}}
	for name, list := range q.filters() {
		v[name] = list
	}
	if len(q.By) > 0 {
		v["by"] = q.By
	}
	if q.Acts {
		v.Set("acts", "true")
	}
	return v
}

// filters returns the filters that are set, by name.
func (q *Query) filters() map[string][]string {
	sources := make([]string, len(q.Sources))
	for i, p := range q.Sources {
		sources[i] = show(p)
	}
	all := map[string][]string{
		BySource: sources, ByAccount: q.Accounts, ByGuard: q.Guards, ByReason: q.Reasons, ByMethod: q.Methods,
		ByAction: q.Actions, ByProtocol: q.Protocols, ByNode: q.Nodes, ByDirection: q.Directions,
	}
	for name, list := range all {
		if len(list) == 0 {
			delete(all, name)
		}
	}
	return all
}

// show writes a prefix as people do: a single address without its length.
func show(p netip.Prefix) string {
	switch {
	case !p.IsValid():
		return ""
	case p.IsSingleIP():
		return p.Addr().String()
	}
	return p.String()
}
