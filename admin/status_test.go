package admin_test

import (
	"net/netip"
	"time"

	"sipward/admin"
	"sipward/listsync/kernel"
	"sipward/notify"
	"sipward/report"
)

// fullStatus is a status with something in each of its parts.
func fullStatus() admin.Status {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	return admin.Status{
		Version: "v", PID: 7, Started: at, Config: "/etc/sipward/sipward.yaml", Mode: "proxy",
		Outside: []string{"udp://198.51.100.1:5060"}, Inside: []string{"udp://203.0.113.1:5060"},
		PBX:     []admin.PBX{{Address: netip.MustParseAddrPort("203.0.113.2:5060"), Weight: 1, Up: true}, {Address: netip.MustParseAddrPort("203.0.113.3:5060"), Since: at, Why: "no answer"}},
		Reasons: map[string]uint64{"pass": 1, "scanner": 3}, Faults: map[string]uint64{"bare-cr": 2}, Verdicts: map[string]uint64{"pass": 1, "drop": 3}, Replies: map[string]uint64{"2xx": 5},
		UDP: []admin.UDP{{Listener: "198.51.100.1:5060", Received: 9}}, TCP: admin.TCP{Open: 1, Slow: 1}, DTLS: &admin.DTLS{Open: 1, Cookies: 2},
		Retransmit:   admin.Retransmit{Transactions: 1, Bytes: 1000, Timers: 2, Refused: 3},
		Certificates: []admin.Certificate{{Source: "tls.certificates[0]", Names: []string{"sip.example.com"}, From: at, Until: at.Add(time.Hour), Warning: "expires"}},
		Allow:        1, Deny: 2, Trunks: 3,
		TFTP:        &admin.TFTP{Listen: []string{"udp://198.51.100.1:69"}, Server: "203.0.113.2:69", Started: 3},
		DNS:         &admin.DNS{Listen: []string{"udp://203.0.113.1:53"}, Protection: "on", Upstreams: []admin.DNSUpstream{{Address: "127.0.0.1:5353", Up: true, Since: at}}, Hits: 1},
		Guards:      []admin.Guard{{Name: "scanner", Action: "watch", Messages: 3, Bans: 1, Would: 2}},
		Bans:        admin.BanCounts{Dynamic: 1, Added: 1, GoodSources: 4},
		Breaker:     []admin.Fuse{{Name: "bans", Open: true, Since: at, Limit: 300, Count: 301}},
		Store:       admin.Store{Path: "/var/lib/sipward/sipward.db", OK: true},
		Journal:     &admin.Journal{Path: "/var/lib/sipward/journal.db", OK: true, Events: 1},
		Kernel:      kernel.Status{Configured: "auto", Backend: "nftables", Scope: "ports", Sets: []kernel.SetStatus{{Name: "bans4", Entries: 1}}, LastSync: at},
		Notify:      notify.Status{Channels: []notify.ChannelStatus{{Name: "mail", Type: "mail", To: "noc@example.com", Delivered: 1}}},
		Reports:     []report.ScheduleStatus{{Every: "daily", At: "07:00", Channel: "mail", Next: at, Last: at, Mailed: 1}},
		KnownPlaces: []string{"1001@example.com"},
		Notices:     []admin.Notice{{Seq: 1, Time: at, Kind: "ban", Reason: "scanner", Source: "192.0.2.1", Text: "banned", Commands: []string{"sipward unban 192.0.2.1"}}},
	}
}
