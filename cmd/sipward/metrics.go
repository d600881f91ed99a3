package main

import (
	"sipward/admin"
	"sipward/policy"
	"sipward/policy/event"
	"sipward/proxy"
	"sipward/sip"
)

// Metrics implements admin.Backend.
func (e *edge) Metrics() admin.Metrics {
	st := e.server.Stats()
	m := admin.Metrics{
		Status: e.Status(), Others: map[string]uint64{}, QueueFill: st.QueueFill, EventsLost: e.events.Lost(),
		UDPLatency: latencyOf(st.UDPLatency), TCPLatency: latencyOf(st.TCPLatency),
	}
	e.engine.Counters().Each(func(c policy.Class, r policy.Reason, n uint64) {
		fromPBX, method, v, isSIP := c.Parts()
		if !isSIP {
			m.Others[r.String()] = n
			return
		}
		count := admin.MessageCount{Direction: event.FromOutside.String(), Verdict: v.String(), Reason: r.String(), Count: n}
		if fromPBX {
			count.Direction = event.FromPBX.String()
		}
		if method != policy.NoMethod {
			count.Method = sip.Method(method).String()
		}
		m.Messages = append(m.Messages, count)
	})
	return m
}

func latencyOf(l proxy.Latency) admin.Latency {
	return admin.Latency{Bounds: l.Bounds, Counts: l.Counts, Sum: l.Sum}
}
