package conf_test

import (
	"net/netip"
	"testing"

	"sipward/conf"
)

const minimal = "pbx: [{address: 203.0.113.2}]\n"

func TestMinimalFileTakesEveryDefault(t *testing.T) {
	c, err := conf.Parse("/etc/sipward/sipward.yaml", []byte(minimal), nil)
	if err != nil {
		t.Fatal(err)
	}
	changes := conf.Diff(conf.Default(), c)
	if len(changes) != 1 || changes[0].Key != "pbx" {
		t.Errorf("differs from the default in %v", changes)
	}
	want := conf.PBX{Address: netip.MustParseAddrPort("203.0.113.2:5060"), Weight: 1}
	if len(c.PBX) != 1 || c.PBX[0] != want {
		t.Errorf("pbx is %v, want %v", c.PBX, want)
	}
	if !c.Listen.OutsideIsDefault {
		t.Error("listen.outside is not marked as default")
	}
}
