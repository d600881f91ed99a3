package conf_test

import (
	"net/netip"
	"reflect"
	"testing"

	"sipward/conf"
)

// plainPBX is one of which nothing but address and weight is written.
func plainPBX(addr string, weight int) conf.PBX {
	return conf.PBX{
		Address: netip.MustParseAddrPort(addr), Weight: weight,
		Transports: []conf.Transport{conf.TransportUDP, conf.TransportTCP}, TLS: conf.PBXTLS{Port: 5061},
	}
}

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
	want := []conf.PBX{plainPBX("203.0.113.2:5060", 1)}
	if !reflect.DeepEqual(c.PBX, want) {
		t.Errorf("pbx is %v, want %v", c.PBX, want)
	}
	if !c.Listen.OutsideIsDefault {
		t.Error("listen.outside is not marked as default")
	}
}
