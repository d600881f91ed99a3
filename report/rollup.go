package report

import (
	"hash/maphash"
	"net/netip"
	"time"

	"sipward/policy"
	"sipward/policy/event"
)

const (
	// maxRows bounds what one minute holds. What is more is counted by reason without
	// its account, method and source, so the sums stay right.
	maxRows = 20_000
	// rowSamples and maxSamples bound the samples of a row and of a minute.
	rowSamples = 2
	maxSamples = 1000
)

// rowKey is what makes two messages of a minute the same.
type rowKey struct {
	source    netip.Prefix // invalid: one of many
	account   string
	method    string
	reason    policy.Reason
	verdict   policy.Verdict
	protocol  event.Protocol
	direction event.Direction
}

// row counts messages of one kind within a minute.
type row struct {
	key         rowKey
	count       uint64
	first, last uint8 // seconds within the minute
	samples     []sample
}

// sample is one message of a row.
type sample struct {
	second    uint8
	transport policy.Transport
	port      uint16
	status    uint16
	detail    string
}

// minute collects the messages of one minute.
type minute struct {
	// rows are found by the hash of their keys; of two keys with the same hash, one
	// stands at the next free number.
	rows    map[uint64]*row
	seed    maphash.Seed
	events  uint64
	folded  uint64 // events counted without their source
	lost    uint64 // events that never arrived here
	samples int
	dirty   bool
}

func newMinute() *minute { return &minute{rows: make(map[uint64]*row), seed: maphash.MakeSeed()} }

// find returns the row of a key, or where it belongs. The key's account is given apart, so
// that a string is made for a new row only.
func (m *minute) find(k *rowKey, account []byte) (r *row, at uint64) {
	var space [256]byte
	a := k.source.Addr().As16()
	b := append(space[:0], a[:]...)
	b = append(b, byte(k.source.Bits()), byte(k.reason), byte(k.verdict), byte(k.protocol), byte(k.direction), byte(len(account)))
	b = append(append(b, account...), k.method...)
	for at = maphash.Bytes(m.seed, b); ; at++ {
		if r = m.rows[at]; r == nil || r.key.is(k, account) {
			return r, at
		}
	}
}

// is says whether k is the same but for its account, which is given apart.
func (x *rowKey) is(k *rowKey, account []byte) bool {
	return x.source == k.source && x.account == string(account) && x.method == k.method && x.reason == k.reason &&
		x.verdict == k.verdict && x.protocol == k.protocol && x.direction == k.direction
}

// add counts one event at a second of the minute. bits6 is the length of an IPv6 source.
func (m *minute) add(ev *event.Event, second uint8, bits6 int) {
	m.dirty = true
	m.events++
	k := rowKey{
		source: sourceOf(ev.Source.Addr(), bits6), method: ev.Method, reason: ev.Reason, verdict: ev.Verdict,
		protocol: ev.Protocol, direction: ev.Direction,
	}
	account := ev.Account.Bytes()
	r, at := m.find(&k, account)
	if r == nil && len(m.rows) >= maxRows {
		m.folded++
		k.source, k.method, account = netip.Prefix{}, "", nil
		r, at = m.find(&k, account)
	}
	if r == nil {
		k.account = string(account)
		r = &row{key: k, first: second, last: second}
		m.rows[at] = r
	}
	r.count++
	r.first, r.last = min(r.first, second), max(r.last, second)
	if len(r.samples) < rowSamples && m.samples < maxSamples && k.source.IsValid() {
		m.samples++
		r.samples = append(r.samples, sample{second, ev.Transport, ev.Source.Port(), ev.Status, ev.Detail.String()})
	}
}

// minuteOf returns the Unix minute of a time and the second within it.
func minuteOf(ns int64) (m int64, second uint8) {
	s := ns / int64(time.Second)
	return s / 60, uint8(s % 60)
}

// sourceOf returns the source that an address belongs to.
func sourceOf(a netip.Addr, bits6 int) netip.Prefix {
	if a.Is4() {
		return netip.PrefixFrom(a, 32)
	}
	p, _ := a.Prefix(bits6) // of an invalid address invalid
	return p
}
