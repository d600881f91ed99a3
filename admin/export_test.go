package admin

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// NewCollector returns what Prometheus asks.
func NewCollector(b Backend) prometheus.Collector { return newCollector(b) }

// Families returns the type and the labels of each metric.
func Families() map[string]string {
	all := map[string]string{}
	for _, f := range families() {
		kind := map[prometheus.ValueType]string{counter: "counter", gauge: "gauge", histogram: "histogram"}[f.kind]
		all[f.name] = strings.TrimSpace(kind + " " + strings.Join(f.labels, ", "))
		if len(f.labels) == 0 {
			all[f.name] = kind + " —"
		}
	}
	return all
}

// Enter counts a connection from an address in a listener's caps, and says whether it may stay.
func Enter() func(netip.Addr) bool { return newCapped(nil).enter }

// Requests lists every request as METHOD PATH.
func Requests() []string {
	var all []string
	for path, methods := range (&Server{cfg: Config{Backend: nil}}).calls() {
		for method := range methods {
			all = append(all, method+" "+path)
		}
	}
	slices.Sort(all)
	return all
}

// RoleOf returns the role that a request needs.
func RoleOf(method, path string) Role { return new(Server).calls()[path][method].need }
