package divert

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// A term is a part of a rule: as people write it, and as the kernel takes it.
type term struct {
	text  string
	exprs []expr.Any
}

// A rule is its terms, one after the other.
type rule []term

func (r rule) String() string {
	words := make([]string, len(r))
	for i, t := range r {
		words[i] = t.text
	}
	return strings.Join(words, " ")
}

func (r rule) exprs() (all []expr.Any) {
	for _, t := range r {
		all = append(all, t.exprs...)
	}
	return all
}

// Registers: a key of several parts fills the first one and those after it.
const (
	reg     = unix.NFT_REG_1
	reg4Th  = unix.NFT_REG32_01 // after an IPv4 address
	reg6Th  = unix.NFT_REG32_04 // after an IPv6 address
	regPort = unix.NFT_REG_2
)

// family is what differs between IPv4 and IPv6.
type family struct {
	proto    byte // NFPROTO_*
	word     string
	digit    string
	loopback netip.Addr
	size     uint32 // of an address
	source   uint32 // its offset in the header
	target   uint32
	port     uint32 // register of a port after an address
	keyType  nftables.SetDatatype
}

var families = [...]family{
	{unix.NFPROTO_IPV4, "ip", "4", netip.MustParseAddr("127.0.0.1"), 4, 12, 16, reg4Th, nftables.TypeIPAddr},
	{unix.NFPROTO_IPV6, "ip6", "6", netip.MustParseAddr("::1"), 16, 8, 24, reg6Th, nftables.TypeIP6Addr},
}

// set is a set of the table.
type set struct {
	name     string
	typ      string
	key      nftables.SetDatatype
	order    binaryutil.ByteOrder // of the key, as nft(8) shows it; nil: big-endian
	concat   bool
	dynamic  bool
	elements []element
}

type element struct {
	text string
	key  []byte
}

func protocol(name string) byte {
	if name == "tcp" {
		return unix.IPPROTO_TCP
	}
	return unix.IPPROTO_UDP
}

// is matches the family and the transport.
func (f *family) is(transport string) term {
	name := map[byte]string{unix.NFPROTO_IPV4: "ipv4", unix.NFPROTO_IPV6: "ipv6"}[f.proto]
	return term{fmt.Sprintf("meta nfproto %s meta l4proto %s", name, transport), []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: reg},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg, Data: []byte{f.proto}},
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg, Data: []byte{protocol(transport)}},
	}}
}

// side is one end of a packet.
type side bool

const (
	from side = false
	to   side = true
)

func (s side) words() (addr, port string) {
	if s == to {
		return "daddr", "dport"
	}
	return "saddr", "sport"
}

func (f *family) loadAddr(s side) *expr.Payload {
	offset := f.source
	if s == to {
		offset = f.target
	}
	return &expr.Payload{DestRegister: reg, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: f.size}
}

func loadPort(s side, register uint32) *expr.Payload {
	offset := uint32(0)
	if s == to {
		offset = 2
	}
	return &expr.Payload{DestRegister: register, Base: expr.PayloadBaseTransportHeader, Offset: offset, Len: 2}
}

// socket matches address and port of one end.
func (f *family) socket(s side, transport, set string) term {
	addr, port := s.words()
	return term{fmt.Sprintf("%s %s . %s %s @%s%s", f.word, addr, transport, port, set, f.digit), []expr.Any{
		f.loadAddr(s), loadPort(s, f.port),
		&expr.Lookup{SourceRegister: reg, SetName: set + f.digit},
	}}
}

// host matches the address of one end.
func (f *family) host(s side, set string) term {
	addr, _ := s.words()
	return term{fmt.Sprintf("%s %s @%s%s", f.word, addr, set, f.digit), []expr.Any{
		f.loadAddr(s), &expr.Lookup{SourceRegister: reg, SetName: set + f.digit},
	}}
}

func port(s side, transport, set string) term {
	_, word := s.words()
	return term{fmt.Sprintf("%s %s @%s", transport, word, set), []expr.Any{
		loadPort(s, reg), &expr.Lookup{SourceRegister: reg, SetName: set},
	}}
}

func arrives(set string, in bool) term {
	word := "!= "
	if in {
		word = ""
	}
	return term{"iifname " + word + "@" + set, []expr.Any{
		&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: reg},
		&expr.Lookup{SourceRegister: reg, SetName: set, Invert: !in},
	}}
}

// notForUs excludes what goes to an address of this host.
func notForUs() term {
	return term{"fib daddr type != local", []expr.Any{
		&expr.Fib{Register: reg, ResultADDRTYPE: true, FlagDADDR: true},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: reg, Data: binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL)},
	}}
}

func marked(mark uint32, is bool) term {
	op, word := expr.CmpOpEq, ""
	if !is {
		op, word = expr.CmpOpNeq, "!= "
	}
	return term{fmt.Sprintf("meta mark %s%#08x", word, mark), []expr.Any{
		&expr.Meta{Key: expr.MetaKeyMARK, Register: reg},
		&expr.Cmp{Op: op, Register: reg, Data: binaryutil.NativeEndian.PutUint32(mark)},
	}}
}

func setMark(mark uint32) term {
	return term{fmt.Sprintf("meta mark set %#08x", mark), []expr.Any{
		&expr.Immediate{Register: reg, Data: binaryutil.NativeEndian.PutUint32(mark)},
		&expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: reg},
	}}
}

func bigPort(p uint16) []byte { return binary.BigEndian.AppendUint16(nil, p) }

// toSocket hands a packet to the socket of its connection, else to the one that listens
// on that local port; if there is neither, the rule ends here.
func (f *family) toSocket(p uint16) term {
	return term{fmt.Sprintf("tproxy %s to %s", f.word, netip.AddrPortFrom(f.loopback, p)), []expr.Any{
		&expr.Immediate{Register: reg, Data: f.loopback.AsSlice()},
		&expr.Immediate{Register: regPort, Data: bigPort(p)},
		&expr.TProxy{Family: f.proto, TableFamily: unix.NFPROTO_INET, RegAddr: reg, RegPort: regPort},
	}}
}

// toPort changes the port that a connection goes to, not its address.
func toPort(p uint16) term {
	return term{fmt.Sprintf("dnat to :%d", p), []expr.Any{
		&expr.Immediate{Register: reg, Data: bigPort(p)},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_INET, RegProtoMin: reg, Specified: true},
	}}
}

// toResolver changes where a packet goes.
func (f *family) toResolver(a netip.AddrPort) term {
	return term{fmt.Sprintf("dnat %s to %s", f.word, a), []expr.Any{
		&expr.Immediate{Register: reg, Data: a.Addr().AsSlice()},
		&expr.Immediate{Register: regPort, Data: bigPort(a.Port())},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: uint32(f.proto), RegAddrMin: reg, RegProtoMin: regPort, Specified: true},
	}}
}

// asksDNS matches what goes to a resolver.
func asksDNS(transport string) term {
	const domain = 53
	return term{fmt.Sprintf("%s dport %d", transport, domain), []expr.Any{
		loadPort(to, reg), &expr.Cmp{Op: expr.CmpOpEq, Register: reg, Data: bigPort(domain)},
	}}
}

// opens matches the first packet of a TCP connection.
func opens() term {
	const flags, fin, syn, rst, ack = 13, 1, 2, 4, 16
	return term{"tcp flags & (fin | syn | rst | ack) == syn", []expr.Any{
		&expr.Payload{DestRegister: reg, Base: expr.PayloadBaseTransportHeader, Offset: flags, Len: 1},
		&expr.Bitwise{SourceRegister: reg, DestRegister: reg, Len: 1, Mask: []byte{fin | syn | rst | ack}, Xor: []byte{0}},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg, Data: []byte{syn}},
	}}
}

// hasSocket matches what belongs to a transparent socket of this host.
func hasSocket() term {
	return term{"socket transparent 1", []expr.Any{
		&expr.Socket{Key: expr.SocketKeyTransparent, Register: reg},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg, Data: []byte{1}},
	}}
}

// remembers puts an end of a packet into a set, for a time.
func (f *family) remembers(s side, transport, set string, long time.Duration) term {
	addr, port := s.words()
	return term{fmt.Sprintf("update @%s%s { %s %s . %s %s timeout %v }", set, f.digit, f.word, addr, transport, port, shortTime(long)), []expr.Any{
		f.loadAddr(s), loadPort(s, f.port),
		&expr.Dynset{SrcRegKey: reg, SetName: set + f.digit, Operation: unix.NFT_DYNSET_OP_UPDATE, Timeout: long},
	}}
}

// shortTime writes 10m as nft does.
func shortTime(d time.Duration) string { return strings.TrimSuffix(d.String(), "0s") }

func untracked() term { return term{"notrack", []expr.Any{&expr.Notrack{}}} }
func accept() term    { return term{"accept", []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}}} }
func drop() term      { return term{"drop", []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}}} }
