package retransmit

// Clock returns what Run does at a time (Unix nanoseconds), to be done by hand.
func (t *Table) Clock() (advance func(now int64)) {
	var out batch
	return func(now int64) { t.advance(now, &out) }
}

// Successes is the number of 2xx that wait for their ACK.
func (t *Table) Successes() int { return len(t.success.keys) }
