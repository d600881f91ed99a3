//go:build linux

package kernel

import (
	"errors"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Probe asks the kernel for single bans, over a handle of its own.
type Probe struct {
	ipset *ipset
	nft   *nft
	set   string
}

// NewProbe makes a probe for IPv4 addresses.
func NewProbe(cfg Config) (*Probe, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	if cfg.Backend == BackendIPSet {
		b, err := openIPSet(&cfg)
		if err != nil {
			return nil, err
		}
		return &Probe{ipset: b.(*ipset), set: b.(*ipset).set(ban4)}, nil
	}
	b, err := openNFTables(&cfg)
	if err != nil {
		return nil, err
	}
	p := &Probe{nft: b.(*nft)}
	names, err := p.nft.list(unix.NFT_MSG_GETSET, unix.NFTA_SET_TABLE, unix.NFTA_SET_NAME)
	for _, name := range names {
		if strings.HasPrefix(name, "ban4.32.") {
			p.set = name
		}
	}
	return p, err
}

// Close ends the use of the probe.
func (p *Probe) Close() {
	if p.ipset != nil {
		p.ipset.close()
	} else {
		p.nft.close()
	}
}

// Has says whether the kernel has a ban of the address.
func (p *Probe) Has(a netip.Addr) (bool, error) {
	if p.ipset != nil {
		var body attrs
		appendElement(&body, entry{prefix: netip.PrefixFrom(a, 32)}, false)
		_, err := p.ipset.request(nl.IPSET_CMD_TEST, p.set, body)
		if errors.Is(err, nl.IPSetError(nl.IPSET_ERR_EXIST)) {
			return false, nil
		}
		return err == nil, err
	}
	body := p.nft.named(unix.NFTA_SET_ELEM_LIST_TABLE, unix.NFTA_SET_ELEM_LIST_SET, p.set)
	all := body.nest(unix.NFTA_SET_ELEM_LIST_ELEMENTS)
	appendKey(&body, a.AsSlice(), 0)
	body.end(all)
	_, err := p.nft.query(unix.NFT_MSG_GETSETELEM, 0, body)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	return err == nil, err
}
