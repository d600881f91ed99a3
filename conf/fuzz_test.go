package conf_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"sipward/conf"
)

// FuzzParse feeds files and a variable of the environment. Whatever they are,
// there is a valid configuration or a list of complaints that say where.
func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/wrong/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range append(files, referenceFile, minimalFile) {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text, "FLOOD__RATE=5")
	}
	f.Add([]byte("pbx: [{address: &a 203.0.113.2}]\nlists: {<<: [{deny: [::1]}], allow: [2001:db8::1, *a]}\n"), "PBX=203.0.113.2;weight=2")
	f.Fuzz(func(t *testing.T, text []byte, variable string) {
		c, err := conf.Parse("f.yaml", text, []string{"SIPWARD_" + variable})
		if err == nil {
			checkValid(t, c)
			return
		}
		var problems conf.Errors
		if !errors.As(err, &problems) || len(problems) == 0 {
			t.Fatalf("%T without a problem: %v", err, err)
		}
		lines := bytes.Count(text, []byte("\n")) + 1
		for _, p := range problems {
			if p.Text == "" || p.Variable == "" && (p.File != "f.yaml" || p.Line < 1 || p.Line > lines || p.Column < 1) {
				t.Errorf("%d lines, and a problem at %d:%d: %v", lines, p.Line, p.Column, p)
			}
		}
	})
}

// checkValid checks what those who use a configuration rely on.
func checkValid(t *testing.T, c *conf.Config) {
	t.Helper()
	if d := conf.Diff(c, c); len(d) != 0 {
		t.Errorf("differs from itself: %v", d)
	}
	if len(c.PBX) == 0 || len(c.Listen.Outside) == 0 || c.TokenKeyFile == "" || c.StateDir == "" || c.Control.Socket == "" {
		t.Errorf("incomplete: %+v", c)
	}
	for _, l := range slices.Concat(c.InsideOrOutside(), c.Listen.Outside) {
		if !l.Addr.IsValid() || l.Addr.Port() == 0 || l.Addr.Addr().Is4In6() {
			t.Errorf("listens on %v", l)
		}
	}
	for _, p := range c.PBX {
		if !p.Address.IsValid() || p.Address.Port() == 0 || p.Address.Addr().IsUnspecified() || p.Weight < 0 {
			t.Errorf("pbx %v", p)
		}
	}
	for _, p := range slices.Concat(c.Trunks, c.Lists.Allow, c.Lists.Deny) {
		if !p.IsValid() || p != p.Masked() || p.Addr().Is4In6() {
			t.Errorf("prefix %v", p)
		}
	}
	if c.Flood.Rate <= 0 || c.Flood.Burst <= 0 || c.TCP.MaxHeader > c.TCP.MaxMessage || c.TCP.IdleTimeout <= c.TCP.MessageTimeout {
		t.Errorf("out of range: %+v", c)
	}
	if c.Register.HitCount < 1 || c.Invite.RateLimit < 1 || c.Enumeration.Accounts < 1 || c.Scanner.BlockTime <= 0 || c.UnprovenBlockTime <= 0 {
		t.Errorf("a guard without a limit: %+v", c)
	}
	for _, a := range []conf.Action{c.Register.Action, c.Invite.Action, c.Scanner.Action, c.Enumeration.Action, c.Honey.Action, c.Malformed.Action, c.Flood.Action} {
		if rejects := a.Kind == conf.ActionReject; rejects != (a.Code >= 400 && a.Code <= 699) {
			t.Errorf("action %+v", a)
		}
	}
}
