package netio

// QueueFill returns how full the receive queue of a worker's socket is: 0 empty, 1 so
// full that the kernel drops.
func (u *UDP) QueueFill(listener, worker int) float64 {
	u.mu.RLock()
	defer u.mu.RUnlock()
	if u.closed {
		return 0
	}
	queued, room, _ := u.groups[listener][worker].meminfo()
	if room == 0 {
		return 0
	}
	return float64(queued) / float64(room)
}
