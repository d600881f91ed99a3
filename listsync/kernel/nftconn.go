//go:build linux

package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// The messages of nftables are written here and not by a library's connection.
// That of google/nftables takes the echoes of many rules for missing
// acknowledgements, spends several allocations on an element, and reads dumps
// 4 KiB at a time: since the kernel counts the elements from the first one again
// for each piece, 100,000 of them take 2.7 s then, and 0.3 s with all that it
// gives at once.

// transaction is messages that take effect together or not at all.
type transaction struct {
	buf      []byte
	messages uint32
	last     int // where the message begins that is answered last

	first, number uint32 // of the first message, and of the one that is answered last; set by send
}

// message appends one with a netfilter header.
func (t *transaction) message(typ, flags uint16, family uint8, resource uint16, body attrs) {
	t.last = len(t.buf)
	t.messages++
	t.buf = binary.NativeEndian.AppendUint32(t.buf, uint32(unix.NLMSG_HDRLEN+nfgenmsgLen+len(body)))
	t.buf = binary.NativeEndian.AppendUint16(t.buf, typ)
	t.buf = binary.NativeEndian.AppendUint16(t.buf, unix.NLM_F_REQUEST|flags)
	t.buf = binary.NativeEndian.AppendUint64(t.buf, 0) // number and port: see send
	t.buf = append(t.buf, family, unix.NFNETLINK_V0)
	t.buf = binary.BigEndian.AppendUint16(t.buf, resource)
	t.buf = append(t.buf, body...) // attributes are padded
}

// add appends a message for the family inet.
func (t *transaction) add(message int, flags uint16, body attrs) {
	if t.messages == 0 {
		t.message(unix.NFNL_MSG_BATCH_BEGIN, 0, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES, nil)
	}
	t.message(nftType(message), flags, unix.NFPROTO_INET, 0, body)
}

func nftType(message int) uint16 { return unix.NFNL_SUBSYS_NFTABLES<<8 | uint16(message) }

// nftConn is a netlink socket. It keeps count of the generations of the
// namespace's rule set, to know when others have changed it.
type nftConn struct {
	socket     *nl.NetlinkSocket
	sequence   uint32
	generation uint32 // the last that is known to be ours; 0: none yet
	foreign    bool   // others have changed something
}

// netlinkTimeout is beyond what the kernel ever takes, so that a lost answer is
// an error and not the end.
const netlinkTimeout = 20 * time.Second

// openSocket opens a socket of netfilter.
func openSocket() (*nl.NetlinkSocket, error) {
	s, err := nl.Subscribe(unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("%w: open a netlink socket: %w", ErrUnsupported, err)
	}
	timeout := unix.NsecToTimeval(int64(netlinkTimeout))
	_ = s.SetSendTimeout(&timeout) // neither can fail
	_ = s.SetReceiveTimeout(&timeout)
	// Without the permission a batch does not fit, which is then said.
	_ = unix.SetsockoptInt(s.GetFd(), unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 1<<20)
	return s, nil
}

// send numbers and sends the messages.
func (c *nftConn) send(t *transaction) error {
	t.first = c.sequence + 1
	for at := 0; at < len(t.buf); at += int(binary.NativeEndian.Uint32(t.buf[at:])) {
		c.sequence++
		binary.NativeEndian.PutUint32(t.buf[at+8:], c.sequence)
		if at == t.last {
			t.number = c.sequence
		}
	}
	return unix.Sendto(c.socket.GetFd(), t.buf, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
}

// commit puts a transaction in force. Only its last message is acknowledged;
// errors come for any.
func (c *nftConn) commit(t *transaction) error {
	if t.messages == 0 {
		return nil
	}
	flags := binary.NativeEndian.Uint16(t.buf[t.last+6:])
	binary.NativeEndian.PutUint16(t.buf[t.last+6:], flags|unix.NLM_F_ACK)
	last := t.last
	t.message(unix.NFNL_MSG_BATCH_END, 0, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES, nil)
	t.last = last
	if err := c.send(t); err != nil {
		return nftError(err)
	}
	if _, _, err := c.receive(t); err != nil {
		return err
	}
	return c.count()
}

// count notes the generation after a commit of ours.
func (c *nftConn) count() error {
	now, err := c.now()
	// A commit that changes nothing makes no generation.
	c.foreign = c.foreign || c.generation != 0 && now != c.generation && now != c.generation+1
	c.generation = now
	return err
}

// now returns the generation of the namespace's rule set.
func (c *nftConn) now() (generation uint32, err error) {
	answer, err := c.query(unix.NFT_MSG_GETGEN, 0, nil)
	for _, m := range answer {
		for typ, value := range parseAttrs(m) {
			if typ == unix.NFTA_GEN_ID && len(value) >= 4 {
				generation = binary.BigEndian.Uint32(value)
			}
		}
	}
	return generation, err
}

// changed says whether anything of the rule set was changed by others since it
// was asked last.
func (c *nftConn) changed() (bool, error) {
	now, err := c.now()
	was := c.foreign || now != c.generation
	c.generation, c.foreign = now, false
	return was, err
}

// receive collects the answers to what was sent, and passes over those to what
// has failed before.
func (c *nftConn) receive(t *transaction) (bodies [][]byte, interrupted bool, err error) {
	for {
		answer, _, err := c.socket.Receive()
		if err != nil {
			return nil, false, fmt.Errorf("wait for the answer of nftables: %w", err)
		}
		for _, m := range answer {
			if m.Header.Seq < t.first {
				continue
			}
			interrupted = interrupted || m.Header.Flags&unix.NLM_F_DUMP_INTR != 0
			switch {
			case m.Header.Type == unix.NLMSG_ERROR && len(m.Data) >= 4:
				if errno := -int32(binary.NativeEndian.Uint32(m.Data)); errno != 0 {
					return nil, false, nftError(unix.Errno(errno))
				}
			case m.Header.Seq == t.number && m.Header.Type != unix.NLMSG_DONE && len(m.Data) >= nfgenmsgLen:
				bodies = append(bodies, m.Data[nfgenmsgLen:])
			}
			if m.Header.Seq == t.number && (m.Header.Flags&unix.NLM_F_MULTI == 0 || m.Header.Type == unix.NLMSG_DONE) {
				return bodies, interrupted, nil
			}
		}
	}
}

// errInterrupted: the rule set was changed again and again while it was read.
var errInterrupted = errors.New("kernel: changed while it was read")

// query asks for something and returns the attributes of each answer.
func (c *nftConn) query(message int, flags uint16, body attrs) ([][]byte, error) {
	for range 5 {
		var t transaction
		t.message(nftType(message), flags, unix.NFPROTO_INET, 0, body)
		if err := c.send(&t); err != nil {
			return nil, nftError(err)
		}
		bodies, interrupted, err := c.receive(&t)
		if err != nil || !interrupted {
			return bodies, err
		}
	}
	return nil, errInterrupted
}

func nftError(err error) error {
	switch {
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return fmt.Errorf("%w: nftables", ErrPermission)
	case errors.Is(err, unix.ENFILE):
		return errFull
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EPROTONOSUPPORT):
		return fmt.Errorf("%w: nftables: %w", ErrUnsupported, err)
	}
	return err
}
