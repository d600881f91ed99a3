package netio

import "golang.org/x/sys/unix"

// ReportICMP makes the kernel report ICMP errors on a listener's sockets, as
// it otherwise does for connected sockets only.
func (u *UDP) ReportICMP(listener int) error {
	for _, s := range u.groups[listener] {
		if err := unix.SetsockoptInt(s.fd, unix.IPPROTO_IP, unix.IP_RECVERR, 1); err != nil {
			return err
		}
	}
	return nil
}

// WriteBatch sends on a listener's first socket, as a worker does.
func (u *UDP) WriteBatch(listener int, msgs []Datagram) {
	newUDPWriter(u.groups[listener][0], len(msgs)).writeBatch(msgs)
}
