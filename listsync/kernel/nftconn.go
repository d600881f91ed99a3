//go:build linux

package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// The messages of nftables are written here and not by the library's Conn: its
// Flush takes the echoes of many rules for missing acknowledgements, and its
// elements cost several allocations each.

// transaction is messages that take effect together or not at all.
type transaction struct {
	messages []netlink.Message
}

// add appends a message for the family inet.
func (t *transaction) add(message int, flags netlink.HeaderFlags, body attrs) {
	t.messages = append(t.messages, nftMessage(message, flags, body))
}

func nftMessage(message int, flags netlink.HeaderFlags, body attrs) netlink.Message {
	return netlink.Message{
		Header: netlink.Header{Type: netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | message), Flags: netlink.Request | flags},
		Data:   append([]byte{unix.NFPROTO_INET, unix.NFNETLINK_V0, 0, 0}, body...),
	}
}

// batchMark begins or ends a transaction.
func batchMark(typ netlink.HeaderType) netlink.Message {
	body := []byte{unix.AF_UNSPEC, unix.NFNETLINK_V0, 0, 0}
	binary.BigEndian.PutUint16(body[2:], unix.NFNL_SUBSYS_NFTABLES)
	return netlink.Message{Header: netlink.Header{Type: typ, Flags: netlink.Request}, Data: body}
}

// netlinkTimeout is beyond what the kernel ever takes, so that a lost answer is
// an error and not the end.
const netlinkTimeout = 20 * time.Second

// commit puts a transaction in force. Only its last message is acknowledged;
// errors come for any.
func (b *nft) commit(t *transaction) error {
	if len(t.messages) == 0 {
		return nil
	}
	t.messages[len(t.messages)-1].Header.Flags |= netlink.Acknowledge
	all := append([]netlink.Message{batchMark(unix.NFNL_MSG_BATCH_BEGIN)}, t.messages...)
	all = append(all, batchMark(unix.NFNL_MSG_BATCH_END))
	if err := b.conn.SetDeadline(time.Now().Add(netlinkTimeout)); err != nil {
		return err
	}
	sent, err := b.conn.SendMessages(all)
	if err != nil {
		return nftError(err)
	}
	last := sent[len(sent)-2].Header.Sequence
	for {
		answer, err := b.conn.Receive()
		if err != nil {
			return nftError(err)
		}
		for _, m := range answer {
			if m.Header.Sequence == last {
				return nil
			}
		}
	}
}

// errInterrupted: the rule set was changed while it was read.
var errInterrupted = errors.New("kernel: changed while it was read")

// query asks for all of a kind and returns the attributes of each answer.
func (b *nft) query(message int, body attrs) ([][]byte, error) {
	for range 5 {
		if err := b.conn.SetDeadline(time.Now().Add(netlinkTimeout)); err != nil {
			return nil, err
		}
		answer, err := b.conn.Execute(nftMessage(message, netlink.Dump, body))
		if err != nil {
			return nil, nftError(err)
		}
		var bodies [][]byte
		interrupted := false
		for _, m := range answer {
			interrupted = interrupted || m.Header.Flags&unix.NLM_F_DUMP_INTR != 0
			if len(m.Data) >= nfgenmsgLen {
				bodies = append(bodies, m.Data[nfgenmsgLen:])
			}
		}
		if !interrupted {
			return bodies, nil
		}
	}
	return nil, errInterrupted
}

// list returns the names of all of a kind in our table; none if there is no
// table.
func (b *nft) list(message int, table, key uint16) ([]string, error) {
	var body attrs
	body.text(table, b.table)
	answer, err := b.query(message, body)
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	var names []string
	for _, m := range answer {
		for typ, value := range parseAttrs(m) {
			if typ == key && len(value) > 0 {
				names = append(names, string(value[:len(value)-1]))
			}
		}
	}
	return names, err
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
