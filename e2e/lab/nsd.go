//go:build linux

package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// StartNSD starts Debian's nsd in the wan, on lab.DNS, with a zone in the form of a zone file.
func (l *Lab) StartNSD(t *testing.T, zone, records string) *Process {
	t.Helper()
	file := filepath.Join(l.dir, "zone")
	if err := os.WriteFile(file, []byte(records), 0o644); err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(l.dir, "nsd.conf")
	text := fmt.Sprintf(`server:
  ip-address: %v
  username: ""
  zonesdir: ""
  pidfile: ""
  database: ""
  zonelistfile: %[2]q
  xfrdfile: %[3]q
  xfrdir: %[4]q
  rrl-ratelimit: 0
  server-count: 1
remote-control:
  control-enable: no
zone:
  name: %[5]q
  zonefile: %[6]q
`, DNS, filepath.Join(l.dir, "nsd.zones"), filepath.Join(l.dir, "nsd.xfrd"), l.dir, zone, file)
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	p, err := l.Start(l.WAN, "nsd", "nsd", "-d", "-c", conf)
	if err != nil {
		t.Fatal(err)
	}
	Poll(t, 20*time.Second, "nsd serves", func() error {
		_, err := l.WAN.Output("dig", "+short", "+tries=1", "+time=1", "@"+DNS.String(), zone, "SOA")
		return err
	})
	return p
}
