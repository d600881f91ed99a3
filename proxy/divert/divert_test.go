package divert_test

import (
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sipward/proxy/divert"
)

var update = flag.Bool("update", false, "write the golden files instead of comparing with them")

func config() divert.Config {
	return divert.Config{
		PBXes:  []netip.AddrPort{netip.MustParseAddrPort("203.0.113.2:5060"), netip.MustParseAddrPort("203.0.113.2:5080"), netip.MustParseAddrPort("[2001:db8:2::2]:5060")},
		Inside: []string{"eth1"}, CarrierPorts: []uint16{5060},
		Port: 15060, Mark: 0x5150, OwnMark: 0x5151, Table: 5150,
	}
}

// TestScript compares what people are shown with the golden files. That the kernel gets the
// same is shown in e2e.
func TestScript(t *testing.T) {
	host := config()
	host.Placement, host.Inside, host.Outside = divert.Host, nil, []string{"eth0"}
	closed := config()
	closed.FailClosed = true
	dns, hostDNS := config(), host
	for _, tcp := range []bool{false, true} {
		dns.DNS = append(dns.DNS, divert.Resolver{TCP: tcp, Addr: netip.MustParseAddrPort("203.0.113.1:53")}, divert.Resolver{TCP: tcp, Addr: netip.MustParseAddrPort("[2001:db8:2::1]:53")})
		hostDNS.DNS = append(hostDNS.DNS, divert.Resolver{TCP: tcp, Addr: netip.MustParseAddrPort("127.0.0.1:5353")})
	}
	for name, cfg := range map[string]divert.Config{"router": config(), "host": host, "router-closed": closed, "router-dns": dns, "host-dns": hostDNS} {
		r, err := divert.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join("testdata", name+".sh")
		got := r.Script()
		if *update {
			if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
		}
	}
}

func TestWrongConfig(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(c *divert.Config)
		says   string
	}{
		"no PBX":           {func(c *divert.Config) { c.PBXes = nil }, "no PBX"},
		"no inside":        {func(c *divert.Config) { c.Inside = nil }, "interfaces that the PBXes are behind"},
		"no mark":          {func(c *divert.Config) { c.Mark = 0 }, "marks"},
		"same marks":       {func(c *divert.Config) { c.OwnMark = c.Mark }, "must differ"},
		"no second port":   {func(c *divert.Config) { c.Port = 65535 }, "port 65535"},
		"interface":        {func(c *divert.Config) { c.Inside = []string{`x" drop`} }, "not the name of an interface"},
		"interface's size": {func(c *divert.Config) { c.Outside = []string{"sixteen-letters-"} }, "not the name of an interface"},
	} {
		c := config()
		tc.change(&c)
		if _, err := divert.New(c); err == nil || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: error %v, want %q in it", name, err, tc.says)
		}
	}
}
