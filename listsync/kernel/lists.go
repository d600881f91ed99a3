package kernel

import (
	"net/netip"
	"time"
)

// SetLists replaces the allow list and the deny list. What is in good standing
// by configuration, such as trunks and the PBXes, belongs to allow.
func (m *Mirror) SetLists(allow, deny []netip.Prefix) {
	if m.off() {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for list, prefixes := range map[set][]netip.Prefix{allow4: allow, ban4: deny} {
		var byFamily [2]map[netip.Prefix]bool
		for f := range byFamily {
			byFamily[f] = make(map[netip.Prefix]bool)
		}
		for _, p := range prefixes {
			for _, p := range elements(p) {
				byFamily[list.of(p)-list][p] = true
			}
		}
		for f := range byFamily {
			m.wanted[list+set(f)].resetStatic(byFamily[f])
		}
	}
	m.signal()
}

// Good says that a source is in good standing until then (Unix time in
// nanoseconds; 0: for ever). A time that has passed ends its standing. It is
// cheap enough to be called by whoever handles a PBX's answer.
func (m *Mirror) Good(source netip.Prefix, until int64) {
	if m.off() {
		return
	}
	ended := until != 0 && until <= time.Now().UnixNano()
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range elements(source) {
		w := &m.wanted[good4.of(p)]
		if _, ok := w.items[p]; !ok && len(w.items) >= w.max {
			continue // one more in the lane of strangers
		}
		w.timed(Entry{p, until}, ended)
	}
	m.signal()
}

// SetGood makes entries the only sources in good standing, as Good does for each.
func (m *Mirror) SetGood(entries []Entry) {
	if m.off() {
		return
	}
	byFamily := byFamily(entries)
	m.mu.Lock()
	defer m.mu.Unlock()
	for f := range byFamily {
		m.wanted[good4+set(f)].resetTimed(byFamily[f])
	}
	m.signal()
}

// LimitStrangers limits how many packets a second all sources together may send
// to the protected ports that are neither allowed nor in good standing. 0 ends
// the limit. With ipset IPv4 and IPv6 have a limit each, and 1,000,000 is the
// highest.
func (m *Mirror) LimitStrangers(perSecond int) {
	m.mu.Lock()
	m.strangers = max(perSecond, 0)
	m.mu.Unlock()
	m.signal()
}

// elements returns what the kernel's sets have for a prefix. They know no /0.
func elements(p netip.Prefix) []netip.Prefix {
	if !p.IsValid() {
		return nil
	}
	if a := p.Addr(); a.Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
	}
	p = p.Masked()
	if p.Bits() > 0 {
		return []netip.Prefix{p}
	}
	upper := netip.AddrFrom4([4]byte{0x80})
	if p.Addr().Is6() {
		upper = netip.AddrFrom16([16]byte{0x80})
	}
	return []netip.Prefix{netip.PrefixFrom(p.Addr(), 1), netip.PrefixFrom(upper, 1)}
}

// byFamily returns the elements of entries, of IPv4 and of IPv6, with their ends.
func byFamily(entries []Entry) [2]map[netip.Prefix]int64 {
	var all [2]map[netip.Prefix]int64
	for f := range all {
		all[f] = make(map[netip.Prefix]int64, len(entries))
	}
	for _, e := range entries {
		for _, p := range elements(e.Prefix) {
			all[ban4.of(p)-ban4][p] = e.Until
		}
	}
	return all
}

// resetBans makes entries the only bans.
func (m *Mirror) resetBans(entries []Entry) {
	byFamily := byFamily(entries)
	m.mu.Lock()
	for f := range byFamily {
		m.wanted[ban4+set(f)].resetTimed(byFamily[f])
	}
	m.fed = true
	m.mu.Unlock()
	m.signal()
}

func (m *Mirror) applyBan(e Entry, removed bool) {
	m.mu.Lock()
	for _, p := range elements(e.Prefix) {
		m.wanted[ban4.of(p)].timed(Entry{p, e.Until}, removed)
	}
	m.mu.Unlock()
	m.signal()
}
