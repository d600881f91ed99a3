package phone_test

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"sipward/e2e/phone"
)

// TestDirectCall lets two phones call each other with nothing in between, so that a failure of a scenario is never the
// phone's own.
func TestDirectCall(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	loopback := netip.MustParseAddrPort("127.0.0.1:0")
	bob, err := phone.New(phone.Config{User: "bob", Domain: "example.com", Local: loopback, T1: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(bob.Close)
	alice, err := phone.New(phone.Config{User: "alice", Domain: "example.com", Local: loopback, Proxy: bob.Local(), T1: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(alice.Close)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(alice.Trace(), "\n\n", bob.Trace())
		}
	})

	call, err := alice.Call(ctx, "sip:bob@example.com")
	if err != nil {
		t.Fatal(err)
	}
	got, err := bob.Incoming(ctx)
	if err != nil {
		t.Fatal(err)
	}
	got.Ring()
	if r, err := call.Ringing(ctx, 180); err != nil || r.Status() != 180 {
		t.Fatalf("ringing: %v, %v", r, err)
	}
	if err := got.Answer(ctx); err != nil {
		t.Fatal(err)
	}
	if r, err := call.Answered(ctx); err != nil || r.Status() != 200 {
		t.Fatalf("answer: %v, %v", r, err)
	}
	for _, method := range []string{"INVITE", "UPDATE"} {
		if r, err := got.Request(ctx, method, bob.SDP()); err != nil || r.Status() != 200 {
			t.Fatalf("%s in the call: %v, %v", method, r, err)
		}
	}
	if r, err := call.Bye(ctx); err != nil || r.Status() != 200 {
		t.Fatalf("BYE: %v, %v", r, err)
	}
	if how, err := got.WaitEnd(ctx); err != nil || how != "BYE" {
		t.Fatalf("end: %q, %v", how, err)
	}
}

// TestCancel cancels a ringing call.
func TestCancel(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	loopback := netip.MustParseAddrPort("[::1]:0")
	bob, err := phone.New(phone.Config{User: "bob", Domain: "example.com", Local: loopback})
	if err != nil {
		t.Skip("no IPv6 loopback:", err)
	}
	t.Cleanup(bob.Close)
	alice, err := phone.New(phone.Config{User: "alice", Domain: "example.com", Local: loopback, Proxy: bob.Local()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(alice.Close)
	call, err := alice.Call(ctx, "sip:bob@example.com")
	if err != nil {
		t.Fatal(err)
	}
	got, err := bob.Incoming(ctx)
	if err != nil {
		t.Fatal(err)
	}
	got.Ring()
	if r, err := call.Cancel(ctx); err != nil || r.Status() != 200 {
		t.Fatalf("CANCEL: %v, %v", r, err)
	}
	if r, err := call.Answered(ctx); err != nil || r.Status() != 487 {
		t.Fatalf("INVITE: %v, %v", r, err)
	}
	if how, err := got.WaitEnd(ctx); err != nil || how != "CANCEL" {
		t.Fatalf("end: %q, %v", how, err)
	}
}
