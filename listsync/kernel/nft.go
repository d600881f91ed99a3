//go:build linux

package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"
)

// nft keeps sets in a table of its own.
//
// There is one set for each length of prefix that is in use, and a rule that
// masks the source address and looks it up. A set of intervals would do with one
// rule, but takes 0.9 s to add a prefix to 100,000, and refuses prefixes that
// overlap.
//
// Sets have the number of a generation in their names. To replace them the next
// generation is filled, the rules are changed over in one transaction, and the
// last generation is deleted after that: a packet sees either the old rules with
// the old sets or the new ones with the new.
type nft struct {
	nftConn
	cfg       *Config
	table     string
	number    int                // of the generation
	sets      map[lengthSet]bool // of this generation
	rules     rules
	installed string // the rules' comments
	before    drops  // of rules that others have taken the place of
}

// lengthSet holds the prefixes of one length of a set.
type lengthSet struct {
	set  set
	bits int
}

var _ backend = (*nft)(nil)

func openNFTables(cfg *Config) (backend, error) {
	s, err := openSocket()
	if err != nil {
		return nil, err
	}
	return &nft{nftConn: nftConn{socket: s}, cfg: cfg, table: cfg.Name + "-lists"}, nil
}

func (b *nft) name() Backend { return BackendNFTables }

func (b *nft) close() { b.socket.Close() }

func (b *nft) longest() time.Duration { return 0 }

func (b *nft) setName(l lengthSet) string {
	return fmt.Sprintf("%v.%d.g%d", l.set, l.bits, b.number)
}

func (b *nft) replace(c *contents, r rules) error {
	old, err := b.list(unix.NFT_MSG_GETSET, unix.NFTA_SET_TABLE, unix.NFTA_SET_NAME)
	if err != nil {
		return fmt.Errorf("list sets: %w", err)
	}
	b.number = next(old)
	if err := b.frame(); err != nil {
		return err
	}
	b.rules, b.sets = r, make(map[lengthSet]bool)
	var t transaction
	for s := range c {
		b.addSet(&t, lengthSet{set(s), set(s).bits()}) // nearly always needed
		for _, e := range c[s] {
			b.addSet(&t, lengthSet{set(s), e.prefix.Bits()})
		}
	}
	if err := b.commit(&t); err != nil {
		return fmt.Errorf("make sets: %w", err)
	}
	for s := range c {
		if err := b.fill(set(s), c[s]); err != nil {
			return fmt.Errorf("fill set %v: %w", set(s), err)
		}
	}
	if err := b.enforce(r); err != nil {
		return err
	}
	t = transaction{}
	for _, name := range old {
		a := b.named(unix.NFTA_SET_TABLE, unix.NFTA_SET_NAME, name)
		t.add(unix.NFT_MSG_DELSET, 0, a)
	}
	if err := b.commit(&t); err != nil {
		return fmt.Errorf("delete the last generation of sets: %w", err)
	}
	return nil
}

// next returns a generation that no set belongs to.
func next(names []string) int {
	last := 0
	for _, name := range names {
		var n int
		if _, tail, ok := strings.Cut(name, ".g"); ok {
			if _, err := fmt.Sscan(tail, &n); err == nil {
				last = max(last, n)
			}
		}
	}
	return last + 1
}

// The chains.
const (
	chainBase    = "prerouting"
	chainGuard4  = "guard4"
	chainGuard6  = "guard6"
	chainBanned4 = "banned4"
	chainBanned6 = "banned6"
	chainLane    = "lane"
)

// frame makes the table and the chains, if they are not there. When something
// else is in their place, all is made anew.
func (b *nft) frame() error {
	build := func(t *transaction) {
		var table attrs
		table.text(unix.NFTA_TABLE_NAME, b.table)
		t.add(unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE, table)
		for _, name := range []string{chainGuard4, chainGuard6, chainBanned4, chainBanned6, chainLane} {
			t.add(unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE, b.named(unix.NFTA_CHAIN_TABLE, unix.NFTA_CHAIN_NAME, name))
		}
		base := b.named(unix.NFTA_CHAIN_TABLE, unix.NFTA_CHAIN_NAME, chainBase)
		hook := base.nest(unix.NFTA_CHAIN_HOOK)
		base.be32(unix.NFTA_HOOK_HOOKNUM, unix.NF_INET_PRE_ROUTING)
		base.be32(unix.NFTA_HOOK_PRIORITY, rawPriority)
		base.end(hook)
		base.be32(unix.NFTA_CHAIN_POLICY, 1) // NF_ACCEPT
		base.text(unix.NFTA_CHAIN_TYPE, "filter")
		t.add(unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE, base)
		if b.cfg.NoRules {
			t.add(unix.NFT_MSG_DELRULE, 0, b.named(unix.NFTA_RULE_TABLE, unix.NFTA_RULE_CHAIN, chainBase))
			t.add(unix.NFT_MSG_DELCHAIN, 0, b.named(unix.NFTA_CHAIN_TABLE, unix.NFTA_CHAIN_NAME, chainBase))
		}
	}
	var t transaction
	build(&t)
	err := b.commit(&t)
	if !errors.Is(err, unix.EEXIST) && !errors.Is(err, ErrUnsupported) {
		return err
	}
	if b.remove() != nil {
		return err
	}
	t = transaction{}
	build(&t)
	if err := b.commit(&t); err != nil {
		return fmt.Errorf("make the table %s: %w", b.table, err)
	}
	return nil
}

// rawPriority is -300: after defragmentation, before connection tracking.
const rawPriority = 1<<32 - 300

// named begins the attributes of what has a name in our table.
func (b *nft) named(table, key uint16, name string) attrs {
	var a attrs
	a.text(table, b.table)
	a.text(key, name)
	return a
}

// The types of keys as nft knows them.
const (
	typeIPv4 = 7
	typeIPv6 = 8
)

// addSet makes the set of a length unless there is one. An element that is
// overwritten is counted twice until the transaction ends, so the set has room
// for a batch more than it is to hold.
func (b *nft) addSet(t *transaction, l lengthSet) (added bool) {
	if b.sets[l] {
		return false
	}
	b.sets[l] = true
	typ := uint32(typeIPv4)
	if l.set.v6() {
		typ = typeIPv6
	}
	a := b.named(unix.NFTA_SET_TABLE, unix.NFTA_SET_NAME, b.setName(l))
	a.be32(unix.NFTA_SET_FLAGS, unix.NFT_SET_TIMEOUT)
	a.be32(unix.NFTA_SET_KEY_TYPE, typ)
	a.be32(unix.NFTA_SET_KEY_LEN, uint32(l.set.bits()/8))
	a.be32(unix.NFTA_SET_ID, t.messages+1)
	desc := a.nest(unix.NFTA_SET_DESC)
	a.be32(unix.NFTA_SET_DESC_SIZE, uint32(b.cfg.MaxEntries+maxBatch))
	a.end(desc)
	// For those who list the set with nft: keys are in network byte order.
	a.bytes(unix.NFTA_SET_USERDATA, userdata.AppendUint32(nil, userdata.NFTNL_UDATA_SET_KEYBYTEORDER, 2))
	t.add(unix.NFT_MSG_NEWSET, unix.NLM_F_CREATE, a)
	return true
}

// appendKey appends an element: at most 44 bytes.
func appendKey(a *attrs, key []byte, left time.Duration) {
	element := a.nest(unix.NFTA_LIST_ELEM)
	k := a.nest(unix.NFTA_SET_ELEM_KEY)
	a.bytes(unix.NFTA_DATA_VALUE, key)
	a.end(k)
	if left > 0 {
		a.be64(unix.NFTA_SET_ELEM_TIMEOUT, uint64(max(left.Milliseconds(), 1)))
	}
	a.end(element)
}

func (b *nft) elements(t *transaction, message int, l lengthSet, ops []op) {
	if len(ops) == 0 {
		return
	}
	a := b.named(unix.NFTA_SET_ELEM_LIST_TABLE, unix.NFTA_SET_ELEM_LIST_SET, b.setName(l))
	all := a.nest(unix.NFTA_SET_ELEM_LIST_ELEMENTS)
	for _, o := range ops {
		appendKey(&a, o.prefix.Addr().AsSlice(), o.left)
	}
	a.end(all)
	flags := uint16(unix.NLM_F_CREATE)
	if message == unix.NFT_MSG_DELSETELEM {
		flags = 0
	}
	t.add(message, flags, a)
}

// fill adds elements to sets that have none.
func (b *nft) fill(s set, entries []entry) error {
	ops := make([]op, len(entries))
	for i, e := range entries {
		ops[i] = op{entry: e, fresh: true}
	}
	return b.apply(s, ops)
}

// apply changes elements. An element cannot be overwritten in kernels before
// 6.12, and the deletion of one that is not there fails the transaction: so
// those that may be there are added, which does nothing if they are, then
// deleted, and added anew.
func (b *nft) apply(s set, ops []op) error {
	byLength := make(map[int][]op)
	var t transaction
	added := false
	for _, o := range ops {
		n := o.prefix.Bits()
		byLength[n] = append(byLength[n], o)
		added = b.addSet(&t, lengthSet{s, n}) || added
	}
	if err := b.commit(&t); err != nil {
		return err
	}
	for n, ops := range byLength {
		l := lengthSet{s, n}
		for len(ops) > 0 {
			some := ops[:min(len(ops), maxBatch)]
			var t transaction
			var sure, unsure []op
			for _, o := range some {
				if !o.del {
					sure = append(sure, o)
				}
				if !o.fresh {
					o.left = 0
					unsure = append(unsure, o)
				}
			}
			b.elements(&t, unix.NFT_MSG_NEWSETELEM, l, unsure)
			b.elements(&t, unix.NFT_MSG_DELSETELEM, l, unsure)
			b.elements(&t, unix.NFT_MSG_NEWSETELEM, l, sure)
			if err := b.commit(&t); err != nil {
				return err
			}
			ops = ops[len(some):]
		}
	}
	if added && b.installed != "" {
		return b.enforce(b.rules)
	}
	return nil
}

func (b *nft) dump(s set) ([]entry, error) {
	var entries []entry
	for l := range b.sets {
		if l.set != s {
			continue
		}
		a := b.named(unix.NFTA_SET_ELEM_LIST_TABLE, unix.NFTA_SET_ELEM_LIST_SET, b.setName(l))
		answer, err := b.query(unix.NFT_MSG_GETSETELEM, unix.NLM_F_DUMP, a)
		if errors.Is(err, unix.ENOENT) {
			return nil, errMissing
		}
		if err != nil {
			return nil, err
		}
		for _, m := range answer {
			for typ, value := range parseAttrs(m) {
				if typ != unix.NFTA_SET_ELEM_LIST_ELEMENTS {
					continue
				}
				for _, element := range parseAttrs(value) {
					if e, ok := parseKey(element, l.bits); ok {
						entries = append(entries, e)
					}
				}
			}
		}
	}
	return entries, nil
}

func parseKey(element []byte, bits int) (e entry, ok bool) {
	var addr netip.Addr
	for typ, value := range parseAttrs(element) {
		switch {
		case typ == unix.NFTA_SET_ELEM_KEY:
			for _, key := range parseAttrs(value) {
				addr, ok = netip.AddrFromSlice(key)
			}
		case typ == unix.NFTA_SET_ELEM_EXPIRATION && len(value) >= 8:
			e.left = time.Duration(binary.BigEndian.Uint64(value)) * time.Millisecond
		}
	}
	e.prefix = netip.PrefixFrom(addr, bits)
	return e, ok
}

// remove takes away the table, in which there is nothing but ours.
func (b *nft) remove() error {
	var table attrs
	table.text(unix.NFTA_TABLE_NAME, b.table)
	var t transaction
	t.add(unix.NFT_MSG_DELTABLE, 0, table)
	if err := b.commit(&t); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("delete table %s: %w", b.table, err)
	}
	return nil
}

// list returns the names of all of a kind in our table; none if there is no
// table.
func (b *nft) list(message int, table, key uint16) ([]string, error) {
	var body attrs
	body.text(table, b.table)
	answer, err := b.query(message, unix.NLM_F_DUMP, body)
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	var names []string
	for _, m := range answer {
		for typ, value := range parseAttrs(m) {
			if typ == key && len(value) > 0 {
				names = append(names, string(value[:len(value)-1]))
			}
		}
	}
	return names, err
}
