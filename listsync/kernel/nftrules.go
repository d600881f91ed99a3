//go:build linux

package kernel

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"
)

// nftRule is a rule with the comment that it is known by again.
type nftRule struct {
	chain   string
	comment string
	exprs   []expr.Any
}

// enforce puts the rules over the sets in force, in one transaction.
func (b *nft) enforce(r rules) error {
	b.rules = r
	all := b.allRules()
	if b.installed != "" {
		var err error
		if b.before, err = b.dropped(); err != nil {
			return fmt.Errorf("read rules: %w", err)
		}
	}
	var t transaction
	for _, chain := range b.chains() {
		t.add(unix.NFT_MSG_DELRULE, 0, b.named(unix.NFTA_RULE_TABLE, unix.NFTA_RULE_CHAIN, chain))
	}
	var installed strings.Builder
	for _, rule := range all {
		a := b.named(unix.NFTA_RULE_TABLE, unix.NFTA_RULE_CHAIN, rule.chain)
		exprs := a.nest(unix.NFTA_RULE_EXPRESSIONS)
		for _, e := range rule.exprs {
			data, err := expr.Marshal(unix.NFPROTO_INET, e)
			if err != nil {
				return fmt.Errorf("write rule %q: %w", rule.comment, err)
			}
			a.bytes(unix.NFTA_LIST_ELEM|unix.NLA_F_NESTED, data)
		}
		a.end(exprs)
		a.bytes(unix.NFTA_RULE_USERDATA, userdata.AppendString(nil, userdata.TypeComment, rule.comment))
		t.add(unix.NFT_MSG_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_APPEND, a)
		fmt.Fprintf(&installed, "%s: %s\n", rule.chain, rule.comment)
	}
	if err := b.commit(&t); err != nil {
		return fmt.Errorf("put rules in force: %w", err)
	}
	b.installed = installed.String()
	return nil
}

// chains are those that have our rules.
func (b *nft) chains() []string {
	chains := []string{chainGuard4, chainGuard6, chainBanned4, chainBanned6, chainLane}
	if !b.cfg.NoRules {
		chains = append(chains, chainBase)
	}
	return chains
}

// allRules returns the rules in the order of chains. Who is allowed is looked up
// only when he is banned, which saves all others a look-up.
func (b *nft) allRules() []nftRule {
	var all []nftRule
	guards, banned := []string{chainGuard4, chainGuard6}, []string{chainBanned4, chainBanned6}
	for v6, chain := range guards {
		all = append(all, b.lookups(chain, "ban", ban4+set(v6), to(banned[v6]))...)
		switch {
		case b.rules.strangers == 0:
		case b.rules.scope == ScopeAll:
			all = append(all, b.toPorts(chain, nil, chainLane)...)
		default:
			all = append(all, nftRule{chain, "strangers or not", to(chainLane)})
		}
	}
	accept := []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}}
	drop := []expr.Any{&expr.Counter{}, &expr.Verdict{Kind: expr.VerdictDrop}}
	for v6, chain := range banned {
		all = append(all, b.lookups(chain, "allow", allow4+set(v6), accept)...)
		all = append(all, nftRule{chain, "banned", drop})
	}
	if b.rules.strangers > 0 {
		for _, s := range []set{allow4, allow6, good4, good6} {
			all = append(all, b.lookups(chainLane, "known", s, accept)...)
		}
		limit := &expr.Limit{
			Type: expr.LimitTypePkts, Rate: uint64(b.rules.strangers), Over: true,
			Unit: expr.LimitTimeSecond, Burst: uint32(b.rules.burst()),
		}
		all = append(all, nftRule{chainLane, "strangers", append([]expr.Any{limit}, drop...)})
	}
	if b.cfg.NoRules {
		return all
	}
	for v6, chain := range guards {
		if b.rules.scope == ScopePorts {
			all = append(all, b.toPorts(chainBase, family(set(v6)), chain)...)
		} else {
			all = append(all, nftRule{chainBase, "to " + chain, append(family(set(v6)), to(chain)...)})
		}
	}
	return all
}

// lookups returns a rule for each length that a set has, single addresses
// first, with what is to be done about those who are in it.
func (b *nft) lookups(chain, what string, s set, then []expr.Any) []nftRule {
	var lengths []int
	for l := range b.sets {
		if l.set == s {
			lengths = append(lengths, l.bits)
		}
	}
	slices.SortFunc(lengths, func(x, y int) int { return y - x })
	var out []nftRule
	for _, n := range lengths {
		exprs := append(family(s), source(s, n)...)
		exprs = append(exprs, &expr.Lookup{SourceRegister: 1, SetName: b.setName(lengthSet{s, n})})
		out = append(out, nftRule{chain, fmt.Sprintf("%s /%d g%d", what, n, b.number), append(exprs, then...)})
	}
	return out
}

// family matches the family of a set. Rules that are reached by one family only
// have it, too: nft cannot show an address without.
func family(s set) []expr.Any {
	proto := byte(unix.NFPROTO_IPV4)
	if s.v6() {
		proto = unix.NFPROTO_IPV6
	}
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{proto}},
	}
}

// source loads the source address, masked to a length.
func source(s set, bits int) []expr.Any {
	length, offset := uint32(4), uint32(12)
	if s.v6() {
		length, offset = 16, 8
	}
	exprs := []expr.Any{&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: length}}
	if bits < int(length)*8 {
		exprs = append(exprs, &expr.Bitwise{
			SourceRegister: 1, DestRegister: 1, Len: length,
			Mask: net.CIDRMask(bits, int(length)*8), Xor: make([]byte, length),
		})
	}
	return exprs
}

// toPorts returns a rule for each protected port that goes to a chain, if what
// comes first matches, too.
func (b *nft) toPorts(chain string, first []expr.Any, target string) []nftRule {
	var out []nftRule
	for _, p := range b.rules.ports {
		exprs := append(slices.Clone(first),
			&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{p.Protocol}},
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binary.BigEndian.AppendUint16(nil, p.Port)},
		)
		out = append(out, nftRule{chain, fmt.Sprintf("%s %d to %s", p.protocol(), p.Port, target), append(exprs, to(target)...)})
	}
	return out
}

func to(chain string) []expr.Any {
	return []expr.Any{&expr.Verdict{Kind: expr.VerdictGoto, Chain: chain}}
}

// foundRule is a rule as the kernel has it.
type foundRule struct {
	chain, comment string
	packets        uint64
}

func (b *nft) foundRules() ([]foundRule, error) {
	var body attrs
	body.text(unix.NFTA_RULE_TABLE, b.table)
	answer, err := b.query(unix.NFT_MSG_GETRULE, unix.NLM_F_DUMP, body)
	var found []foundRule
	for _, m := range answer {
		var f foundRule
		for typ, value := range parseAttrs(m) {
			switch typ {
			case unix.NFTA_RULE_CHAIN:
				f.chain = strings.TrimRight(string(value), "\x00")
			case unix.NFTA_RULE_USERDATA:
				f.comment, _ = userdata.GetString(value, userdata.TypeComment)
			case unix.NFTA_RULE_EXPRESSIONS:
				f.packets = counted(value)
			}
		}
		found = append(found, f)
	}
	return found, err
}

// counted returns the packets of a rule's counter.
func counted(exprs []byte) (packets uint64) {
	for _, e := range parseAttrs(exprs) {
		name := ""
		for typ, value := range parseAttrs(e) {
			switch {
			case typ == unix.NFTA_EXPR_NAME:
				name = strings.TrimRight(string(value), "\x00")
			case typ == unix.NFTA_EXPR_DATA && name == "counter":
				for typ, value := range parseAttrs(value) {
					if typ == unix.NFTA_COUNTER_PACKETS && len(value) >= 8 {
						packets += binary.BigEndian.Uint64(value)
					}
				}
			}
		}
	}
	return packets
}

func (b *nft) intact() (bool, error) {
	found, err := b.foundRules()
	if err != nil {
		return false, err
	}
	chains := b.chains()
	slices.SortStableFunc(found, func(x, y foundRule) int {
		return cmp.Compare(slices.Index(chains, x.chain), slices.Index(chains, y.chain))
	})
	var have strings.Builder
	for _, f := range found {
		if slices.Contains(chains, f.chain) {
			fmt.Fprintf(&have, "%s: %s\n", f.chain, f.comment)
		}
	}
	return have.String() == b.installed, nil
}

func (b *nft) dropped() (drops, error) {
	d := b.before
	found, err := b.foundRules()
	for _, f := range found {
		if f.comment == "strangers" {
			d.strangers += f.packets
		} else {
			d.bans += f.packets
		}
	}
	return d, err
}
