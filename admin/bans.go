package admin

import (
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"sipward/policy"
	"sipward/policy/iplist"
)

// MaxBans is the most bans that a page can have.
const MaxBans = 5000

// BanQuery asks for bans in force.
type BanQuery struct {
	// Limit is how many at most, up to MaxBans; 0: all.
	Limit int
	// Latest asks for the latest first, instead of last.
	Latest bool
	// After is where the page before ended; zero: this is the first.
	After BanCursor
	// Match asks for those whose prefix, kind, reason, guard or comment has this text in it,
	// without regard to case, or, if it is an address, that keep this address out. Empty: all.
	Match string
	// Prefix asks for those that have an address in common with it; zero: all.
	Prefix netip.Prefix
	// Reasons asks for those for one of these reasons, words of policy.Reason; none: all.
	Reasons []string
}

// BanCursor is a place in the order of bans: by their begin, then by their prefix.
type BanCursor struct {
	Start  int64 // Unix nanoseconds
	Prefix netip.Prefix
}

// IsZero says whether the cursor is none.
func (c BanCursor) IsZero() bool { return !c.Prefix.IsValid() }

// String returns what clients hand back.
func (c BanCursor) String() string {
	if c.IsZero() {
		return ""
	}
	return strconv.FormatInt(c.Start, 10) + "_" + c.Prefix.String()
}

func parseBanCursor(text string) (c BanCursor, err error) {
	start, prefix, _ := strings.Cut(text, "_")
	if c.Start, err = strconv.ParseInt(start, 10, 64); err == nil {
		c.Prefix, err = netip.ParsePrefix(prefix)
	}
	return c, err
}

// BanPage is a part of the bans in force.
type BanPage struct {
	Bans []Ban `json:"bans"`
	// Total is how many there are on all pages together.
	Total int `json:"total"`
	// Next is the cursor of the next page; empty: this is the last.
	Next string `json:"next,omitempty"`
}

// The parameters of GET /v1/lists/bans.
const (
	paramLimit  = "limit"
	paramCursor = "cursor"
	paramOrder  = "order"
	paramMatch  = "match"
	paramPrefix = "prefix"
	paramReason = "reason"

	orderLatest = "latest"
	orderOldest = "oldest"
)

// values returns the parameters that parseBanQuery reads as q.
func (q *BanQuery) values() url.Values {
	v := url.Values{}
	if q.Limit > 0 {
		v.Set(paramLimit, strconv.Itoa(q.Limit))
	}
	if q.Latest {
		v.Set(paramOrder, orderLatest)
	}
	if !q.After.IsZero() {
		v.Set(paramCursor, q.After.String())
	}
	if q.Match != "" {
		v.Set(paramMatch, q.Match)
	}
	if q.Prefix.IsValid() {
		v.Set(paramPrefix, q.Prefix.String())
	}
	if len(q.Reasons) > 0 {
		v.Set(paramReason, strings.Join(q.Reasons, ","))
	}
	return v
}

func parseBanQuery(v url.Values) (q BanQuery, err error) {
	wrong := func(format string, args ...any) (BanQuery, error) {
		return BanQuery{}, &Refusal{http.StatusBadRequest, fmt.Sprintf(format, args...)}
	}
	for name, values := range v {
		text := values[0]
		if len(values) != 1 || len(text) > maxAddress {
			return wrong("%.40q stands here once, with at most %d characters", name, maxAddress)
		}
		switch name {
		case paramLimit:
			if q.Limit, err = strconv.Atoi(text); err != nil || q.Limit < 1 || q.Limit > MaxBans {
				return wrong("limit: %q is not a number from 1 to %d", text, MaxBans)
			}
		case paramCursor:
			if text == "" {
				continue
			}
			if q.After, err = parseBanCursor(text); err != nil {
				return wrong("cursor: %q is none; take it from next of the page before, or leave it out for the first page", text)
			}
		case paramOrder:
			if text != orderLatest && text != orderOldest {
				return wrong("order: %q is not known; there are %s and %s first", text, orderLatest, orderOldest)
			}
			q.Latest = text == orderLatest
		case paramMatch:
			q.Match = text
		case paramPrefix:
			if q.Prefix, err = iplist.ParsePrefix(text); err != nil {
				return wrong("prefix: %v", err)
			}
		case paramReason:
			for word := range strings.SplitSeq(text, ",") {
				if !slices.Contains(policy.ReasonWords(), word) {
					return wrong("reason: there is no reason %.40q; write a word that sipward list bans --json shows, such as register or scanner", word)
				}
				q.Reasons = append(q.Reasons, word)
			}
		default:
			return wrong("there is no parameter %.40q here; there are limit, cursor, order, match, prefix and reason", name)
		}
	}
	return q, nil
}

func (s *Server) bans(r *http.Request) (any, error) {
	q, err := parseBanQuery(r.URL.Query())
	if err != nil {
		return nil, err
	}
	return s.cfg.Backend.Bans(q)
}

// quarantineList keeps room beside the list for what may be added later.
type quarantineList struct {
	Quarantines []Quarantine `json:"quarantines"`
}

func (s *Server) quarantines(*http.Request) (any, error) {
	all, err := s.cfg.Backend.Quarantines()
	return quarantineList{all}, err
}
