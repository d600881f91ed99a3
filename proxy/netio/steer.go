package netio

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Steer gives what comes from the hosts inside, the PBXes, to workers of their own: to as
// many as there are hosts, and half of all workers at most. The others share what comes from
// anywhere else, by the address (of IPv6, its /64) that it comes from. So all that goes
// through sipward is spread evenly, though every answer of a PBX comes over one flow; and
// however many packets strangers send, those of the PBXes have a queue that they cannot fill.
//
// Steer may be called again with other hosts, from any goroutine, also while the listeners
// run. With one worker there is nothing to do. On an error, of kernels that know no
// SO_ATTACH_REUSEPORT_CBPF, the workers share all flows by a hash of addresses and ports.
func (u *UDP) Steer(inside []netip.Addr) error {
	u.mu.RLock()
	defer u.mu.RUnlock()
	if u.closed || u.cfg.Workers < 2 || len(inside) == 0 {
		return nil
	}
	for _, group := range u.groups {
		s := group[0]
		prog := steering(inside, s.addr.Addr().Is4(), len(group))
		f := unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]}
		if err := unix.SetsockoptSockFprog(s.fd, unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_CBPF, &f); err != nil {
			return fmt.Errorf("steer udp %s: %w", s.addr, sockErr("setsockopt", err))
		}
	}
	return nil
}

// networkHeader is where a packet's IP header begins, for a program that is given its payload
// (SKF_NET_OFF of linux/filter.h).
const networkHeader = 0xfff00000

// maxSteered is how many hosts a program knows at most: the kernel bounds its size (the sysctl
// net.core.optmem_max). The rest are treated like any other host.
const maxSteered = 64

// steering is a program in classic BPF that returns the worker for a packet.
func steering(inside []netip.Addr, v4 bool, workers int) []unix.SockFilter {
	const (
		load  = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		equal = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		give  = unix.BPF_RET | unix.BPF_K
		alu   = unix.BPF_ALU | unix.BPF_K
	)
	// Where the source stands in the header of IP (RFC 791 §3.1, RFC 8200 §3).
	source := uint32(networkHeader)
	if v4 {
		source += 12
	} else {
		source += 8
	}
	inside = inside[:min(len(inside), maxSteered)]
	own := min(len(inside), workers/2)
	var prog []unix.SockFilter
	for i, host := range inside {
		if host.Is4() != v4 {
			continue
		}
		b := host.AsSlice()
		for at := 0; at < len(b); at += 4 {
			skip := uint8((len(b)-at-4)/2 + 1) // what is left of this host
			prog = append(prog,
				unix.SockFilter{Code: load, K: source + uint32(at)},
				unix.SockFilter{Code: equal, K: binary.BigEndian.Uint32(b[at:]), Jf: skip})
		}
		prog = append(prog, unix.SockFilter{Code: give, K: uint32(i % own)})
	}
	prog = append(prog, unix.SockFilter{Code: load, K: source})
	if !v4 {
		prog = append(prog,
			unix.SockFilter{Code: unix.BPF_MISC | unix.BPF_TAX},
			unix.SockFilter{Code: load, K: source + 4},
			unix.SockFilter{Code: unix.BPF_ALU | unix.BPF_XOR | unix.BPF_X})
	}
	return append(prog,
		unix.SockFilter{Code: alu | unix.BPF_MUL, K: 0x9e3779b1}, // Knuth's multiplicative hash: the upper bits depend on all
		unix.SockFilter{Code: alu | unix.BPF_RSH, K: 16},
		unix.SockFilter{Code: alu | unix.BPF_MOD, K: uint32(workers - own)},
		unix.SockFilter{Code: alu | unix.BPF_ADD, K: uint32(own)},
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_A})
}
