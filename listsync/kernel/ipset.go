//go:build linux

package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// ipset keeps sets of type hash:net over one netlink handle. Rules are made
// with iptables.
type ipset struct {
	cfg    *Config
	socket *nl.SocketHandle
	tables []*iptables
}

var _ backend = (*ipset)(nil)

func openIPSet(cfg *Config) (backend, error) {
	tables, err := findIPTables(cfg.Name)
	if err != nil && !cfg.NoRules {
		return nil, err
	}
	b := &ipset{cfg: cfg, tables: tables}
	s, err := openSocket()
	if err != nil {
		return nil, err
	}
	b.socket = &nl.SocketHandle{Socket: s}
	return b, nil
}

func (b *ipset) name() Backend { return BackendIPSet }

func (b *ipset) close() { b.socket.Socket.Close() }

// longest is the highest number of seconds that the kernel takes.
func (b *ipset) longest() time.Duration { return 2147483 * time.Second }

func (b *ipset) set(s set) string { return b.cfg.Name + "-" + s.String() }

// request sends one message and returns what is answered.
func (b *ipset) request(command int, set string, body attrs) ([][]byte, error) {
	req := nl.NewNetlinkRequest(command|unix.NFNL_SUBSYS_IPSET<<8, nl.GetIpsetFlags(command))
	req.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_NETFILTER: b.socket}
	raw := make(attrs, 0, len(body)+64)
	raw = append(raw, unix.AF_INET, unix.NFNETLINK_V0, 0, 0)
	raw.u8(nl.IPSET_ATTR_PROTOCOL, nl.IPSET_PROTOCOL)
	raw.text(nl.IPSET_ATTR_SETNAME, set)
	req.RawData = append(raw, body...)
	answer, err := req.Execute(unix.NETLINK_NETFILTER, 0)
	return answer, ipsetError(err)
}

// hashFull is what hash types answer when maxelem is reached
// (IPSET_ERR_HASH_FULL).
const hashFull = unix.Errno(nl.IPSET_ERR_TYPE_SPECIFIC)

func ipsetError(err error) error {
	var errno unix.Errno
	if !errors.As(err, &errno) {
		return err
	}
	switch {
	case errno == unix.EPERM || errno == unix.EACCES:
		return fmt.Errorf("%w: ipset", ErrPermission)
	case errno == hashFull:
		return errFull
	case errno == unix.EINVAL || errno == nl.IPSET_ERR_FIND_TYPE || errno == unix.EOPNOTSUPP || errno == unix.EPROTONOSUPPORT:
		return fmt.Errorf("%w: ipset with hash:net: %w", ErrUnsupported, err)
	case errno >= nl.IPSET_ERR_PRIVATE:
		return nl.IPSetError(errno)
	}
	return err
}

// revision of hash:net: the last one that all kernels since 3.18 have.
const revision = 6

// create makes a set for n elements; one that is there already stays.
func (b *ipset) create(name string, s set, n int) error {
	family := uint8(unix.AF_INET)
	if s.v6() {
		family = unix.AF_INET6
	}
	var body attrs
	body.text(nl.IPSET_ATTR_TYPENAME, "hash:net")
	body.u8(nl.IPSET_ATTR_REVISION, revision)
	body.u8(nl.IPSET_ATTR_FAMILY, family)
	data := body.nest(nl.IPSET_ATTR_DATA)
	// Growing while it is filled would take most of the time.
	body.be32(nl.IPSET_ATTR_HASHSIZE|unix.NLA_F_NET_BYTEORDER, max(1024, uint32(1)<<bits.Len(uint(n/4))))
	body.be32(nl.IPSET_ATTR_MAXELEM|unix.NLA_F_NET_BYTEORDER, uint32(b.cfg.MaxEntries))
	body.be32(nl.IPSET_ATTR_TIMEOUT|unix.NLA_F_NET_BYTEORDER, 0) // entries have timeouts; the default is none
	body.end(data)
	if _, err := b.request(nl.IPSET_CMD_CREATE, name, body); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("create set %s: %w", name, err)
	}
	return nil
}

func (b *ipset) destroy(name string) error {
	if _, err := b.request(nl.IPSET_CMD_DESTROY, name, nil); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("destroy set %s: %w", name, err)
	}
	return nil
}

// replace fills a second set and swaps the two, so that there is no instant in
// which neither is in force.
func (b *ipset) replace(c *contents, r rules) error {
	for s := range numSets {
		if err := b.swap(s, c[s]); err != nil {
			return err
		}
	}
	return b.enforce(r)
}

func (b *ipset) swap(s set, entries []entry) error {
	name := b.set(s)
	second := name + "-new"
	if err := b.destroy(second); err != nil {
		return err
	}
	if err := b.create(second, s, len(entries)); err != nil {
		return err
	}
	ops := make([]op, len(entries))
	for i, e := range entries {
		ops[i].entry = e
	}
	if err := b.change(second, nl.IPSET_CMD_ADD, ops); err != nil {
		return err
	}
	if err := b.create(name, s, 0); err != nil {
		return err
	}
	var body attrs
	body.text(nl.IPSET_ATTR_SETNAME2, second)
	if _, err := b.request(nl.IPSET_CMD_SWAP, name, body); err != nil {
		return fmt.Errorf("swap set %s: %w", name, err)
	}
	return b.destroy(second)
}

func (b *ipset) apply(s set, ops []op) error {
	var adds, dels []op
	for _, o := range ops {
		if o.del {
			dels = append(dels, o)
		} else {
			adds = append(adds, o)
		}
	}
	if err := b.change(b.set(s), nl.IPSET_CMD_DEL, dels); err != nil {
		return err
	}
	return b.change(b.set(s), nl.IPSET_CMD_ADD, adds)
}

// change sends elements in messages of up to maxBatch. Without NLM_F_EXCL an
// element that is there is overwritten, and one that is gone is no error.
func (b *ipset) change(name string, command int, ops []op) error {
	var body attrs
	for len(ops) > 0 {
		n := min(len(ops), maxBatch)
		body = body[:0]
		body.be32(nl.IPSET_ATTR_LINENO|unix.NLA_F_NET_BYTEORDER, 0)
		all := body.nest(nl.IPSET_ATTR_ADT)
		for _, o := range ops[:n] {
			appendElement(&body, o.entry, command == nl.IPSET_CMD_ADD)
		}
		body.end(all)
		if _, err := b.request(command, name, body); err != nil {
			if errors.Is(err, unix.ENOENT) {
				err = errMissing
			}
			return fmt.Errorf("change set %s: %w", name, err)
		}
		ops = ops[n:]
	}
	return nil
}

// appendElement appends an element: at most 52 bytes, so that maxBatch of them
// fit into the 64 KiB of an attribute.
func appendElement(a *attrs, e entry, timeout bool) {
	data := a.nest(nl.IPSET_ATTR_DATA)
	ip := a.nest(nl.IPSET_ATTR_IP)
	if addr := e.prefix.Addr(); addr.Is4() {
		b := addr.As4()
		a.bytes(nl.IPSET_ATTR_IPADDR_IPV4|unix.NLA_F_NET_BYTEORDER, b[:])
	} else {
		b := addr.As16()
		a.bytes(nl.IPSET_ATTR_IPADDR_IPV6|unix.NLA_F_NET_BYTEORDER, b[:])
	}
	a.end(ip)
	a.u8(nl.IPSET_ATTR_CIDR, uint8(e.prefix.Bits()))
	if timeout {
		a.be32(nl.IPSET_ATTR_TIMEOUT|unix.NLA_F_NET_BYTEORDER, seconds(e.left))
	}
	a.end(data)
}

// seconds rounds up: a ban that ends sooner than the second is lifted by its
// own change, and while sipward is down it shall last to its end.
func seconds(left time.Duration) uint32 {
	const longest = 2147483
	return uint32(min((left+time.Second-1)/time.Second, longest))
}

func (b *ipset) dump(s set) ([]entry, error) {
	answer, err := b.request(nl.IPSET_CMD_LIST, b.set(s), nil)
	if errors.Is(err, unix.ENOENT) {
		return nil, errMissing
	}
	if err != nil {
		return nil, err
	}
	var entries []entry
	for _, message := range answer {
		if len(message) < nfgenmsgLen {
			continue
		}
		for typ, value := range parseAttrs(message[nfgenmsgLen:]) {
			if typ != nl.IPSET_ATTR_ADT {
				continue
			}
			for _, data := range parseAttrs(value) {
				if e, ok := parseElement(data, s.bits()); ok {
					entries = append(entries, e)
				}
			}
		}
	}
	return entries, nil
}

func parseElement(data []byte, bits int) (e entry, ok bool) {
	var addr netip.Addr
	for typ, value := range parseAttrs(data) {
		switch {
		case typ == nl.IPSET_ATTR_IP:
			for _, ip := range parseAttrs(value) {
				addr, ok = netip.AddrFromSlice(ip)
			}
		case typ == nl.IPSET_ATTR_CIDR && len(value) >= 1:
			bits = int(value[0])
		case typ == nl.IPSET_ATTR_TIMEOUT && len(value) >= 4:
			e.left = time.Duration(binary.BigEndian.Uint32(value)) * time.Second
		}
	}
	e.prefix = netip.PrefixFrom(addr, bits)
	return e, ok
}

func (b *ipset) enforce(r rules) error {
	for _, t := range b.tables {
		if b.cfg.NoRules {
			_ = t.remove() // those of another configuration; without the right to do it there are none
			continue
		}
		if err := t.install(r); err != nil {
			return err
		}
	}
	if b.cfg.NoRules {
		b.tables = nil
	}
	return nil
}

// changed cannot be told without looking.
func (b *ipset) changed() (bool, error) { return true, nil }

func (b *ipset) intact() (bool, error) {
	for _, t := range b.tables {
		if ok, err := t.intact(); !ok {
			return ok, err
		}
	}
	return true, nil
}

func (b *ipset) dropped() (drops, error) {
	var sum drops
	for _, t := range b.tables {
		d, err := t.dropped()
		if err != nil {
			return drops{}, err
		}
		sum = sum.plus(d)
	}
	return sum, nil
}

// remove takes away the rules, if any set is there, and then the sets.
func (b *ipset) remove() error {
	var names []string
	for s := range numSets {
		for _, name := range []string{b.set(s), b.set(s) + "-new"} {
			_, err := b.request(nl.IPSET_CMD_HEADER, name, nil)
			if errors.Is(err, unix.ENOENT) {
				continue
			}
			if err != nil {
				return fmt.Errorf("look for set %s: %w", name, err)
			}
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	for _, t := range b.tables {
		if err := t.remove(); err != nil {
			return err
		}
	}
	for _, name := range names {
		err := b.destroy(name)
		if errors.Is(err, nl.IPSetError(nl.IPSET_ERR_BUSY)) { // somebody's rule uses it
			_, err = b.request(nl.IPSET_CMD_FLUSH, name, nil)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
