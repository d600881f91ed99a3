package upstream

import "time"

// Avoid has connections avoid the PBX until then, as after a refusal.
func (p *PBX) Avoid(until time.Time) { p.streamHold.Store(until.UnixNano()) }
