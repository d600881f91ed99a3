package main

import (
	"context"
	"net/netip"
	"strings"
	"testing"

	demopbx "sipward/cmd/sipward/internal/demo/pbx"
)

// office is the configuration of a sipward that does not run yet, in front of a PBX that
// does, with the account 1001 (password "right").
func office(t *testing.T, more ...string) *running {
	t.Helper()
	p, err := demopbx.Listen(demopbx.Config{Addr: netip.MustParseAddrPort("127.0.0.10:0"), Accounts: []demopbx.Account{{User: "1001", Password: "right"}}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error("the PBX:", err)
		}
	})
	r := prepare(t, more...)
	r.write(strings.Replace(r.text(), "address: 127.0.0.3:5060", "address: "+p.Addr().String(), 1))
	return r
}

// outside is where phones find it.
func (r *running) outside() netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(r.port))
}
