package admin

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"sipward/listsync/kernel"
	"sipward/notify"
	"sipward/report"
)

// Metrics is what Prometheus is told, taken at one time.
type Metrics struct {
	Status Status
	// Messages counts SIP messages.
	Messages []MessageCount
	// Others counts by reason what is no SIP message: requests for files and names, and
	// connections that were refused.
	Others map[string]uint64
	// UDPLatency and TCPLatency are of one SIP message in 64.
	UDPLatency, TCPLatency Latency
	// QueueFill is how full the fullest receive queue is, 0 to 1.
	QueueFill float64
	// EventsLost counts what subscribers of events were too slow for.
	EventsLost uint64
}

// MessageCount counts messages of one kind since the start.
type MessageCount struct {
	Direction, Method, Verdict, Reason string
	Count                              uint64
}

// Latency is a histogram: Counts has one more than Bounds, for what took longer.
type Latency struct {
	Bounds []time.Duration
	Counts []uint64
	Sum    time.Duration
}

// family is one metric family. Labels never hold an address or anything else that a
// stranger chooses: each has a few values.
type family struct {
	name   string
	kind   prometheus.ValueType // untyped: a histogram
	labels []string
	help   string
}

const (
	counter   = prometheus.CounterValue
	gauge     = prometheus.GaugeValue
	histogram = prometheus.UntypedValue
)

// families lists all that there is; docs/metrics.md lists the same.
func families() []family {
	return []family{
		{"sipward_build_info", gauge, []string{"version", "mode"}, "Always 1; the labels tell which sipward this is."},
		{"sipward_start_time_seconds", gauge, nil, "When sipward was started, in Unix time."},

		{"sipward_messages_total", counter, []string{"direction", "method", "verdict", "reason"}, "SIP messages by what became of them."},
		{"sipward_malformed_messages_total", counter, []string{"fault"}, "SIP messages that break the rules, by what is wrong."},
		{"sipward_pbx_replies_total", counter, []string{"class"}, "Answers of the PBXes by class of their status."},
		{"sipward_other_requests_total", counter, []string{"reason"}, "Requests for files and names, and connections refused, by what became of them."},
		{"sipward_packet_duration_seconds", histogram, []string{"transport"}, "Time from the arrival of a message until it was decided on and handed to the sender, of one in 64."},

		{"sipward_bans", gauge, []string{"kind"}, "Bans in force."},
		{"sipward_bans_unproven", gauge, nil, "Bans in force that rest on evidence which somebody else could have forged."},
		{"sipward_ban_results_total", counter, []string{"result"}, "Bans by what became of them: added, expired, evicted by others, or not made because of a full table or the breaker."},
		{"sipward_breaker_open", gauge, []string{"limit"}, "1 while automatic bans are stopped because of this limit."},
		{"sipward_guard_stopped_messages_total", counter, []string{"guard"}, "Messages that a guard has stopped."},
		{"sipward_guard_would_total", counter, []string{"guard"}, "Times that a guard which only watches would have acted."},
		{"sipward_guard_bans", gauge, []string{"guard"}, "Bans in force of a guard."},
		{"sipward_quarantines", gauge, nil, "Accounts that are shut out from a source in good standing."},
		{"sipward_good_sources", gauge, nil, "Sources in good standing."},
		{"sipward_accounts_under_attack", gauge, nil, "Accounts that are let in from known places only."},
		{"sipward_list_entries", gauge, []string{"list"}, "Prefixes on the lists."},

		{"sipward_pbx_up", gauge, []string{"pbx"}, "1 if the PBX answers; they are numbered in the order of the configuration, from 1."},
		{"sipward_certificate_expiry_timestamp_seconds", gauge, []string{"certificate"}, "When a certificate expires, in Unix time; they are numbered in the order of the configuration, from 1, those by ACME last."},

		{"sipward_udp_received_packets_total", counter, nil, "Datagrams received."},
		{"sipward_udp_sent_packets_total", counter, nil, "Datagrams sent."},
		{"sipward_udp_send_errors_total", counter, nil, "Datagrams that could not be sent."},
		{"sipward_udp_receive_queue_drops_total", counter, nil, "Datagrams that the kernel dropped because a receive queue was full."},
		{"sipward_udp_receive_queue_ratio", gauge, nil, "How full the fullest receive queue is, 0 to 1."},
		{"sipward_tcp_connections", gauge, nil, "Open TCP connections."},
		{"sipward_tcp_accepted_connections_total", counter, nil, "TCP connections accepted."},
		{"sipward_tcp_refused_connections_total", counter, nil, "TCP connections refused by a list, a ban or a cap."},
		{"sipward_tcp_closed_connections_total", counter, []string{"cause"}, "TCP connections closed because they were slow, idle, or out of step."},

		{"sipward_dtls_associations", gauge, nil, "Open DTLS associations."},
		{"sipward_dtls_accepted_associations_total", counter, nil, "DTLS associations begun by clients that have proved their address."},
		{"sipward_dtls_refused_associations_total", counter, nil, "DTLS associations refused by a list, a ban or a cap."},
		{"sipward_dtls_failed_handshakes_total", counter, nil, "DTLS associations that ended in the handshake."},
		{"sipward_dtls_cookies_total", counter, nil, "Cookies sent to clients of DTLS that had none."},
		{"sipward_dtls_dropped_datagrams_total", counter, []string{"cause"}, "Datagrams to DTLS listeners that were dropped: malformed, of no association, too long, or without room in a queue."},

		{"sipward_retransmit_transactions", gauge, nil, "Transactions between a connection and UDP that are remembered."},
		{"sipward_retransmit_bytes", gauge, nil, "Memory that they take, with their messages."},
		{"sipward_retransmit_sent_messages_total", counter, []string{"cause"}, "Messages sent again over UDP: by a timer, or because the other side repeated its own."},
		{"sipward_retransmit_absorbed_messages_total", counter, nil, "Messages repeated over UDP that did not go on over a connection."},
		{"sipward_retransmit_timeouts_total", counter, nil, "INVITEs from a connection that were never answered over UDP."},
		{"sipward_retransmit_refused_requests_total", counter, nil, "Requests for which there was no room."},

		{"sipward_kernel_mirroring", gauge, []string{"backend"}, "1 if the kernel follows the bans."},
		{"sipward_kernel_set_entries", gauge, []string{"set"}, "Entries in a set of the kernel."},
		{"sipward_kernel_set_overflow_entries", gauge, []string{"set"}, "Entries for which a set has no room."},
		{"sipward_kernel_set_pending_changes", gauge, []string{"set"}, "Changes that the kernel has not been told of yet."},
		{"sipward_kernel_dropped_packets_total", counter, []string{"rule"}, "Packets that the kernel dropped, as of the last comparison."},
		{"sipward_kernel_resyncs_total", counter, nil, "Times that a set was made anew."},
		{"sipward_kernel_repairs_total", counter, nil, "Times that something which others had changed was repaired."},
		{"sipward_kernel_failures_total", counter, nil, "Times that the kernel refused something."},

		{"sipward_database_up", gauge, []string{"database"}, "1 if the database can be used."},
		{"sipward_database_errors_total", counter, []string{"database"}, "Errors of the database."},
		{"sipward_database_pending_changes", gauge, []string{"database"}, "Changes that wait to be written."},
		{"sipward_journal_size_bytes", gauge, nil, "Size of the journal."},
		{"sipward_journal_lost_events_total", counter, nil, "Messages that were too many for the journal to count."},
		{"sipward_journal_folded_events_total", counter, nil, "Messages that the journal counted without their source."},
		{"sipward_journal_lost_acts_total", counter, nil, "Bans and administrative acts that the journal has lost."},
		{"sipward_events_lost_total", counter, nil, "Events that a subscriber was too slow for: the journal, or a live view."},

		{"sipward_notify_attacks", gauge, nil, "Attacks that go on."},
		{"sipward_notify_waiting_events", gauge, []string{"channel"}, "Events that wait to be delivered."},
		{"sipward_notify_delivered_events_total", counter, []string{"channel"}, "Events that were delivered."},
		{"sipward_notify_failures_total", counter, []string{"channel"}, "Attempts to deliver that failed."},
		{"sipward_notify_lost_events_total", counter, []string{"channel", "cause"}, "Events that were given up: the spool was full, they had waited too long, or the other side refused them."},
		{"sipward_notify_lost_notices_total", counter, nil, "Notices that were lost because too many came at once."},

		{"sipward_scheduled_report_next_timestamp_seconds", gauge, []string{"schedule"}, "When the report is due next, in Unix time; they are numbered in the order of the configuration, from 1."},
		{"sipward_scheduled_report_last_timestamp_seconds", gauge, []string{"schedule"}, "When a report was mailed last, in Unix time; 0 if none was."},
		{"sipward_scheduled_report_failing", gauge, []string{"schedule"}, "1 if the latest attempt to mail the report failed."},
		{"sipward_scheduled_reports_total", counter, []string{"schedule", "result"}, "Reports by what became of them: mailed, or given up a day late."},
		{"sipward_scheduled_report_failures_total", counter, []string{"schedule"}, "Attempts to mail the report that failed."},

		{"sipward_tftp_transfers", gauge, nil, "Transfers at present."},
		{"sipward_tftp_limited_sources", gauge, nil, "Sources that are limited at present."},
		{"sipward_tftp_transfers_total", counter, []string{"result"}, "Transfers that were started, and how they ended."},
		{"sipward_tftp_sent_bytes_total", counter, []string{"to"}, "Bytes sent to clients and to the server."},
		{"sipward_dns_questions_total", counter, []string{"result"}, "Questions by how they were answered."},
		{"sipward_dns_cache_entries", gauge, nil, "Answers in the cache."},
		{"sipward_dns_cache_bytes", gauge, nil, "Size of the cache."},
		{"sipward_dns_in_flight_questions", gauge, nil, "Questions that wait for an upstream."},
		{"sipward_dns_upstream_up", gauge, []string{"upstream"}, "1 if the upstream answers; they are numbered in the order of the configuration, from 1."},
		{"sipward_dns_upstream_replies_failed_total", counter, []string{"upstream"}, "Questions that the upstream did not answer."},
		{"sipward_dns_upstream_replies_foreign_total", counter, []string{"upstream"}, "Replies that answered no question: forged, or too late."},
	}
}

// collector asks the backend at each scrape.
type collector struct {
	backend Backend
	descs   map[string]*prometheus.Desc
	kinds   map[string]prometheus.ValueType
}

var _ prometheus.Collector = (*collector)(nil)

func newCollector(b Backend) *collector {
	c := &collector{backend: b, descs: map[string]*prometheus.Desc{}, kinds: map[string]prometheus.ValueType{}}
	for _, f := range families() {
		c.descs[f.name] = prometheus.NewDesc(f.name, f.help, f.labels, nil)
		c.kinds[f.name] = f.kind
	}
	return c
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range c.descs {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	m := c.backend.Metrics()
	s := &scrape{c, ch}
	s.messages(&m)
	s.protection(&m.Status)
	s.sockets(&m)
	s.retransmit(&m.Status.Retransmit)
	s.kernel(&m.Status.Kernel)
	s.databases(&m)
	s.notify(&m.Status.Notify)
	s.reports(m.Status.Reports)
	s.tftp(m.Status.TFTP)
	s.dns(m.Status.DNS)
}

// scrape is one answer to Prometheus.
type scrape struct {
	*collector
	ch chan<- prometheus.Metric
}

func (s *scrape) add(name string, value float64, labels ...string) {
	s.ch <- prometheus.MustNewConstMetric(s.descs[name], s.kinds[name], value, labels...)
}

// counts adds a metric for each key of a map.
func (s *scrape) counts(name string, counts map[string]uint64) {
	for label, n := range counts {
		s.add(name, float64(n), label)
	}
}

func (s *scrape) latency(l Latency, transport string) {
	buckets, n := map[float64]uint64{}, uint64(0)
	for i, count := range l.Counts {
		n += count
		if i < len(l.Bounds) {
			buckets[l.Bounds[i].Seconds()] = n
		}
	}
	s.ch <- prometheus.MustNewConstHistogram(s.descs["sipward_packet_duration_seconds"], n, l.Sum.Seconds(), buckets, transport)
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func (s *scrape) messages(m *Metrics) {
	s.add("sipward_build_info", 1, m.Status.Version, m.Status.Mode)
	s.add("sipward_start_time_seconds", float64(m.Status.Started.UnixNano())/1e9)
	for _, c := range m.Messages {
		s.add("sipward_messages_total", float64(c.Count), c.Direction, c.Method, c.Verdict, c.Reason)
	}
	s.counts("sipward_malformed_messages_total", m.Status.Faults)
	s.counts("sipward_pbx_replies_total", m.Status.Replies)
	s.counts("sipward_other_requests_total", m.Others)
	s.latency(m.UDPLatency, "udp")
	s.latency(m.TCPLatency, "tcp")
}

func (s *scrape) protection(st *Status) {
	b := &st.Bans
	s.counts("sipward_bans", map[string]uint64{"dynamic": uint64(b.Dynamic), "permanent": uint64(b.Permanent), "manual": uint64(b.Manual)})
	s.add("sipward_bans_unproven", float64(b.Unproven))
	s.counts("sipward_ban_results_total", map[string]uint64{
		"added": b.Added, "expired": b.Expired, "evicted": b.Evicted, "table-full": b.Full, "breaker": b.Breaker,
	})
	for _, f := range st.Breaker {
		s.add("sipward_breaker_open", truth(f.Open), f.Name)
	}
	for _, g := range st.Guards {
		s.add("sipward_guard_stopped_messages_total", float64(g.Messages), g.Name)
		s.add("sipward_guard_would_total", float64(g.Would), g.Name)
		s.add("sipward_guard_bans", float64(g.Bans), g.Name)
	}
	s.add("sipward_quarantines", float64(b.Quarantines))
	s.add("sipward_good_sources", float64(b.GoodSources))
	s.add("sipward_accounts_under_attack", float64(len(st.KnownPlaces)))
	s.counts("sipward_list_entries", map[string]uint64{"allow": uint64(st.Allow), "deny": uint64(st.Deny), "trunks": uint64(st.Trunks)})
}

// numbered is the label of the i-th of what the configuration lists.
func numbered(i int) string { return strconv.Itoa(i + 1) }

func (s *scrape) sockets(m *Metrics) {
	for i, p := range m.Status.PBX {
		s.add("sipward_pbx_up", truth(p.Up), numbered(i))
	}
	for i, c := range m.Status.Certificates {
		if !c.Until.IsZero() {
			s.add("sipward_certificate_expiry_timestamp_seconds", float64(c.Until.Unix()), numbered(i))
		}
	}
	var u UDP
	for _, l := range m.Status.UDP {
		u.Received += l.Received
		u.Sent += l.Sent
		u.SendErrors += l.SendErrors
		u.QueueDrops += l.QueueDrops
	}
	s.add("sipward_udp_received_packets_total", float64(u.Received))
	s.add("sipward_udp_sent_packets_total", float64(u.Sent))
	s.add("sipward_udp_send_errors_total", float64(u.SendErrors))
	s.add("sipward_udp_receive_queue_drops_total", float64(u.QueueDrops))
	s.add("sipward_udp_receive_queue_ratio", m.QueueFill)
	t := &m.Status.TCP
	s.add("sipward_tcp_connections", float64(t.Open))
	s.add("sipward_tcp_accepted_connections_total", float64(t.Accepted))
	s.add("sipward_tcp_refused_connections_total", float64(t.Refused))
	s.counts("sipward_tcp_closed_connections_total", map[string]uint64{"slow": t.Slow, "idle": t.Idle, "framing": t.Faults})
	if d := m.Status.DTLS; d != nil {
		s.dtls(d)
	}
}

func (s *scrape) dtls(d *DTLS) {
	s.add("sipward_dtls_associations", float64(d.Open))
	s.add("sipward_dtls_accepted_associations_total", float64(d.Accepted))
	s.add("sipward_dtls_refused_associations_total", float64(d.Refused))
	s.add("sipward_dtls_failed_handshakes_total", float64(d.Failed))
	s.add("sipward_dtls_cookies_total", float64(d.Cookies))
	s.counts("sipward_dtls_dropped_datagrams_total", map[string]uint64{"malformed": d.Malformed, "stray": d.Strays, "oversize": d.Oversize, "queue": d.Lost})
}

func (s *scrape) retransmit(r *Retransmit) {
	s.add("sipward_retransmit_transactions", float64(r.Transactions))
	s.add("sipward_retransmit_bytes", float64(r.Bytes))
	s.counts("sipward_retransmit_sent_messages_total", map[string]uint64{"timer": r.Timers, "repeat": r.Replays})
	s.add("sipward_retransmit_absorbed_messages_total", float64(r.Absorbed))
	s.add("sipward_retransmit_timeouts_total", float64(r.TimedOut))
	s.add("sipward_retransmit_refused_requests_total", float64(r.Refused))
}

func (s *scrape) kernel(k *kernel.Status) {
	s.add("sipward_kernel_mirroring", truth(k.Backend != kernel.BackendNone && k.Reason == ""), string(k.Backend))
	for _, set := range k.Sets {
		s.add("sipward_kernel_set_entries", float64(set.Entries), set.Name)
		s.add("sipward_kernel_set_overflow_entries", float64(set.Over), set.Name)
		s.add("sipward_kernel_set_pending_changes", float64(set.Pending), set.Name)
	}
	s.counts("sipward_kernel_dropped_packets_total", map[string]uint64{"bans": k.DroppedBans, "strangers": k.DroppedStrangers})
	s.add("sipward_kernel_resyncs_total", float64(k.Resyncs))
	s.add("sipward_kernel_repairs_total", float64(k.Repairs))
	s.add("sipward_kernel_failures_total", float64(k.Failures))
}

func (s *scrape) databases(m *Metrics) {
	st, j := &m.Status.Store, m.Status.Journal
	s.add("sipward_database_up", truth(st.OK), "bans")
	s.add("sipward_database_errors_total", float64(st.Errors), "bans")
	s.add("sipward_database_pending_changes", float64(st.Pending), "bans")
	s.add("sipward_events_lost_total", float64(m.EventsLost))
	if j == nil {
		return
	}
	s.add("sipward_database_up", truth(j.OK), "journal")
	s.add("sipward_database_errors_total", float64(j.Errors), "journal")
	s.add("sipward_database_pending_changes", float64(j.Waiting), "journal")
	s.add("sipward_journal_size_bytes", float64(j.Bytes))
	s.add("sipward_journal_lost_events_total", float64(j.LostEvents))
	s.add("sipward_journal_folded_events_total", float64(j.Folded))
	s.add("sipward_journal_lost_acts_total", float64(j.LostActs))
}

func (s *scrape) notify(n *notify.Status) {
	s.add("sipward_notify_attacks", float64(n.Attacks))
	s.add("sipward_notify_lost_notices_total", float64(n.Lost))
	for _, c := range n.Channels {
		s.add("sipward_notify_waiting_events", float64(c.Waiting), c.Name)
		s.add("sipward_notify_delivered_events_total", float64(c.Delivered), c.Name)
		s.add("sipward_notify_failures_total", float64(c.Failures), c.Name)
		s.add("sipward_notify_lost_events_total", float64(c.Full), c.Name, "full")
		s.add("sipward_notify_lost_events_total", float64(c.Expired), c.Name, "expired")
		s.add("sipward_notify_lost_events_total", float64(c.Refused), c.Name, "refused")
	}
}

func (s *scrape) reports(all []report.ScheduleStatus) {
	for i := range all {
		r := &all[i]
		last := 0.0
		if !r.Last.IsZero() {
			last = float64(r.Last.Unix())
		}
		s.add("sipward_scheduled_report_next_timestamp_seconds", float64(r.Next.Unix()), numbered(i))
		s.add("sipward_scheduled_report_last_timestamp_seconds", last, numbered(i))
		s.add("sipward_scheduled_report_failing", truth(r.Error != ""), numbered(i))
		s.add("sipward_scheduled_reports_total", float64(r.Mailed), numbered(i), "mailed")
		s.add("sipward_scheduled_reports_total", float64(r.GivenUp), numbered(i), "given-up")
		s.add("sipward_scheduled_report_failures_total", float64(r.Failures), numbered(i))
	}
}

func (s *scrape) tftp(t *TFTP) {
	if t == nil {
		return
	}
	s.add("sipward_tftp_transfers", float64(t.Open))
	s.add("sipward_tftp_limited_sources", float64(t.Limited))
	s.counts("sipward_tftp_transfers_total", map[string]uint64{
		"started": t.Started, "completed": t.Completed, "failed": t.Failed, "cut": t.Cut, "evicted": t.Evicted,
	})
	s.counts("sipward_tftp_sent_bytes_total", map[string]uint64{"clients": t.ToClients, "server": t.ToServer})
}

func (s *scrape) dns(d *DNS) {
	if d == nil {
		return
	}
	s.counts("sipward_dns_questions_total", map[string]uint64{"hit": d.Hits, "miss": d.Misses, "stale": d.Stale, "failure": d.Failures})
	s.add("sipward_dns_cache_entries", float64(d.Entries))
	s.add("sipward_dns_cache_bytes", float64(d.Bytes))
	s.add("sipward_dns_in_flight_questions", float64(d.InFlight))
	for i, u := range d.Upstreams {
		s.add("sipward_dns_upstream_up", truth(u.Up), numbered(i))
		s.add("sipward_dns_upstream_replies_failed_total", float64(u.Failed), numbered(i))
		s.add("sipward_dns_upstream_replies_foreign_total", float64(u.Foreign), numbered(i))
	}
}

// metrics makes the route of GET /metrics: all of the above, and what Go and the process
// need of the machine.
func (s *Server) metrics() route {
	reg := prometheus.NewRegistry()
	reg.MustRegister(newCollector(s.cfg.Backend), collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	h := promhttp.HandlerFor(reg, promhttp.HandlerOpts{MaxRequestsInFlight: 4})
	return route{Read, func(w http.ResponseWriter, r *http.Request) error {
		h.ServeHTTP(w, r)
		return nil
	}}
}
