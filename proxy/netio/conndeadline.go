package netio

import "time"

// expectBy makes t the time at which the connection is given up. The socket's
// deadline is moved only when it is later: when it passes early, late looks.
func (c *Conn) expectBy(t time.Time) {
	in := &c.in
	in.due = t
	if in.armed.IsZero() || t.Before(in.armed) {
		c.arm(t)
	}
}

// begin is called when the first byte of a message has come.
func (c *Conn) begin(now time.Time) {
	by := now.Add(c.t.cfg.MessageTimeout)
	if c.in.waiting && c.in.first.Before(by) {
		by = c.in.first
	}
	c.expectBy(by)
}

// settle is called when nothing is pending.
func (c *Conn) settle(now time.Time) {
	switch {
	case c.in.waiting:
		c.expectBy(c.in.first)
	case c.listener < 0:
		c.in.due = time.Time{}
	default:
		c.expectBy(now.Add(c.t.cfg.IdleTimeout))
	}
}

func (c *Conn) arm(t time.Time) {
	c.in.armed = t
	_ = c.d.SetReadDeadline(t)
	if c.draining.Load() { // flushAndClose's deadline was perhaps undone
		_ = c.d.SetReadDeadline(time.Unix(1, 0))
	}
}

// late is called when the socket's deadline has passed. It returns why the
// connection is to be closed, or sets the deadline that holds now.
func (c *Conn) late() error {
	in := &c.in
	switch {
	case in.due.IsZero():
		c.arm(time.Time{})
		return nil
	case time.Now().Before(in.due):
		c.arm(in.due)
		return nil
	case in.opening:
		return ErrHandshakeTimeout
	case in.partial:
		return ErrMessageTimeout
	}
	return ErrIdle
}
