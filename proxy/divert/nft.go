package divert

import (
	"errors"
	"fmt"
	"math/bits"
	"slices"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// tableOwner is the flag of a table that ends with the socket that has made it
// (NFT_TABLE_F_OWNER).
const tableOwner = 0x2

// owned reports whether a table has an owner. The library reads the flags in the byte
// order of the host, and the kernel writes them big-endian.
func owned(t *nftables.Table) bool {
	return t.Flags&tableOwner != 0 || bits.ReverseBytes32(t.Flags)&tableOwner != 0
}

// ruleset is the table in the kernel. An owner's connection stays open.
type ruleset struct {
	cfg  *Config
	conn *nftables.Conn
	raw  *netlink.Conn // that of conn
}

func openRuleset(cfg *Config) (*ruleset, error) {
	r := &ruleset{cfg: cfg}
	conn, err := nftables.New(nftables.AsLasting(), nftables.WithSockOptions(func(c *netlink.Conn) error {
		r.raw = c
		return nil
	}))
	if err != nil {
		return nil, fmt.Errorf("open a netlink socket: %w", err)
	}
	r.conn = conn
	return r, nil
}

func (r *ruleset) close() { _ = r.conn.CloseLasting() }

// find returns the table, nil if there is none.
func (r *ruleset) find() (*nftables.Table, error) {
	tables, err := r.conn.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return nil, fmt.Errorf("list the tables of nftables: %w", err)
	}
	i := slices.IndexFunc(tables, func(t *nftables.Table) bool { return t.Name == r.cfg.Name })
	if i < 0 {
		return nil, nil
	}
	return tables[i], nil
}

// make puts the table in force, in place of one that is there.
func (r *ruleset) make(old *nftables.Table) error {
	table := &nftables.Table{Name: r.cfg.Name, Family: nftables.TableFamilyINet}
	if old != nil && owned(old) {
		return fmt.Errorf("nftables table %q: %w: it has an owner, so another sipward is running", r.cfg.Name, ErrConflict)
	}
	if old != nil {
		r.conn.DelTable(old)
	}
	if r.cfg.FailClosed {
		r.conn.AddTable(table)
	} else {
		// The library cannot write flags. Its connection must be the owner's, because
		// nobody else may add to the table.
		if err := r.conn.Flush(); err != nil {
			return fmt.Errorf("remove the table of an earlier sipward: %w", err)
		}
		if err := r.makeOwned(); err != nil {
			return err
		}
	}
	if err := r.fill(table); err != nil {
		return err
	}
	if err := r.conn.Flush(); err != nil {
		return refused(err)
	}
	return nil
}

func refused(err error) error {
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("add the rules to nftables: %w (it needs nf_tables with tproxy, socket, fib and nat): %w", ErrUnsupported, err)
	}
	return fmt.Errorf("add the rules to nftables: %w", err)
}

// makeOwned makes the empty table, with its flag.
func (r *ruleset) makeOwned() error {
	attrs, err := netlink.MarshalAttributes([]netlink.Attribute{
		{Type: unix.NFTA_TABLE_NAME, Data: []byte(r.cfg.Name + "\x00")},
		{Type: unix.NFTA_TABLE_FLAGS, Data: []byte{0, 0, 0, tableOwner}},
	})
	if err != nil {
		return fmt.Errorf("write a message to nftables: %w", err)
	}
	header := func(family byte, resource uint16) []byte {
		return []byte{family, unix.NFNETLINK_V0, byte(resource >> 8), byte(resource)}
	}
	edge := header(unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES)
	_, err = r.raw.SendMessages([]netlink.Message{
		{Header: netlink.Header{Type: unix.NFNL_MSG_BATCH_BEGIN, Flags: netlink.Request}, Data: edge},
		{Header: netlink.Header{
			Type:  unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_NEWTABLE,
			Flags: netlink.Request | netlink.Acknowledge | netlink.Create | netlink.Excl,
		}, Data: append(header(unix.NFPROTO_INET, 0), attrs...)},
		{Header: netlink.Header{Type: unix.NFNL_MSG_BATCH_END, Flags: netlink.Request}, Data: edge},
	})
	if err == nil {
		_, err = r.raw.Receive()
	}
	if err != nil {
		return fmt.Errorf("make the nftables table %q: %w", r.cfg.Name, err)
	}
	return nil
}

// fill adds sets, chains and rules to what Flush sends.
func (r *ruleset) fill(table *nftables.Table) error {
	for i, s := range r.cfg.sets() {
		v := &nftables.Set{
			Table: table, Name: s.name, ID: uint32(i + 1), KeyType: s.key, KeyByteOrder: s.order, Concatenation: s.concat,
			Dynamic: s.dynamic, HasTimeout: s.dynamic,
		}
		if s.dynamic {
			v.Size = maxFlows
		}
		if err := r.conn.AddSet(v, setElements(s)); err != nil {
			return fmt.Errorf("write set %s: %w", s.name, err)
		}
	}
	for _, c := range r.cfg.chains() {
		priority := nftables.ChainPriority(c.priority)
		ch := r.conn.AddChain(&nftables.Chain{Name: c.name, Table: table, Type: c.typ, Hooknum: c.hook, Priority: &priority})
		for _, rule := range c.rules {
			r.conn.AddRule(&nftables.Rule{Table: table, Chain: ch, Exprs: rule.exprs()})
		}
	}
	return nil
}

func setElements(s set) []nftables.SetElement {
	elements := make([]nftables.SetElement, len(s.elements))
	for i, e := range s.elements {
		elements[i] = nftables.SetElement{Key: e.key}
	}
	return elements
}

// update replaces what the sets of PBXes hold, in one step.
func (r *ruleset) update() error {
	table := &nftables.Table{Name: r.cfg.Name, Family: nftables.TableFamilyINet}
	for i := range families {
		for _, s := range r.cfg.addresses(&families[i]) {
			if s.dynamic {
				continue
			}
			v := &nftables.Set{Table: table, Name: s.name, KeyType: s.key, Concatenation: s.concat}
			r.conn.FlushSet(v)
			if err := r.conn.SetAddElements(v, setElements(s)); err != nil {
				return fmt.Errorf("write set %s: %w", s.name, err)
			}
		}
	}
	return refusedOrNil(r.conn.Flush())
}

func refusedOrNil(err error) error {
	if err == nil {
		return nil
	}
	return refused(err)
}

// remove deletes the table.
func (r *ruleset) remove(t *nftables.Table) error {
	r.conn.DelTable(t)
	if err := r.conn.Flush(); err != nil {
		return fmt.Errorf("remove the nftables table %q: %w", r.cfg.Name, err)
	}
	return nil
}
