package netio

// CloseAll lets every connection send what is queued for it, and closes it. It
// does not wait for that; see Stats.
func (t *TCP) CloseAll() {
	t.conns.each((*Conn).CloseAfterFlush)
}
