//go:build linux

package e2e_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"testing"

	"sipward/e2e/lab"
	"sipward/e2e/phone"
	"sipward/listsync/kernel"
)

// forgedSource is one of 10,000 addresses.
func forgedSource(i int) netip.AddrPort {
	n := uint32(i%10_000) * 2654435761 & 0xffffff
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}), 5060)
}

// crowd are five registered phones.
func (s *site) crowd(t *testing.T) []*phone.Phone {
	t.Helper()
	var phones []*phone.Phone
	for i, user := range []string{"1001", "1002", "1003", "1004", "1005"} {
		phones = append(phones, s.registered(t, udp, user, 1+i))
	}
	return phones
}

// TestKernelTrustedLane: the kernel knows who is registered, so that it can limit all others together while they forge
// addresses; the registered phones do not feel it. It knows them after a kill -9, too.
func TestKernelTrustedLane(t *testing.T) {
	eachBackend(t, func(t *testing.T, b kernel.Backend) {
		lab.Need(t, "ipset", "iptables", "ip6tables")
		s := attacked(t, fmt.Sprintf("log: {level: info}\nkernel: {backend: %s}\noverload: {kernel_strangers: 1000}\n", b))
		w := &wall{site: s, backend: b}
		w.follows(t)
		phones := s.crowd(t)
		w.settles(t, "good4", 5)
		s.testUnderFlood(t, phones, 20_000, forgedSource, s.template("REGISTER", "Yealink SIP-T46S 66.86.0.15"))
		k := w.kernel(t)
		if k.DroppedStrangers < 10_000 || k.Strangers != 1000 {
			t.Errorf("the limit of strangers was %d, and dropped %d", k.Strangers, k.DroppedStrangers)
		}
		want(t, 200)(phones[4].Register(within(t, patience), 0))
		w.settles(t, "good4", 4)
		s.sipward.KillHard()
		s.sipward.Restart(t)
		w.follows(t)
		// That the fifth has unregistered is not known after the restart: all have standing for a while.
		w.settles(t, "good4", 5)
	})
}

// TestKernelLaneByItself: with auto the limit comes when a receive queue fills.
func TestKernelLaneByItself(t *testing.T) {
	lab.Need(t, "ipset", "iptables", "ip6tables")
	s := attacked(t, "log: {level: info}\nkernel: {backend: nftables}\noverload: {kernel_strangers: auto, strangers: 1000}\nudp: {receive_buffer: 64KiB}\n")
	w := &wall{site: s, backend: kernel.BackendNFTables}
	w.follows(t)
	if k := w.kernel(t); k.Strangers != 0 {
		t.Errorf("a limit of %d while it is calm", k.Strangers)
	}
	f := must[*lab.Forger](t)(s.Forger())
	defer f.Close()
	b := s.template("REGISTER", "Yealink SIP-T46S 66.86.0.15")
	n := 0
	lab.Poll(t, patience, "the kernel limits strangers", func() error {
		for range 20_000 { // as fast as it can
			n++
			if err := f.Queue(forgedSource(n), s.proxy(false), b); err != nil {
				return err
			}
		}
		var k kernel.Status
		if err := json.Unmarshal([]byte(w.cli(t, "kernel status --json")), &k); err != nil {
			return err
		}
		if k.Strangers != 2000 || k.DroppedStrangers == 0 {
			return fmt.Errorf("a limit of %d, and %d dropped", k.Strangers, k.DroppedStrangers)
		}
		return nil
	})
}
