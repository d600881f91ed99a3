package phone

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Network opens a phone's sockets. A network namespace of the lab is one, Host is another.
type Network interface {
	ListenUDP(local netip.AddrPort) (*net.UDPConn, error)
	ListenTCP(local netip.AddrPort) (*net.TCPListener, error)
	DialTCP(local, remote netip.AddrPort, timeout time.Duration) (*net.TCPConn, error)
}

// Host opens sockets on the machine itself.
type Host struct{}

var _ Network = Host{}

// ListenUDP implements Network.
func (Host) ListenUDP(local netip.AddrPort) (*net.UDPConn, error) {
	return net.ListenUDP("udp", net.UDPAddrFromAddrPort(local))
}

// ListenTCP implements Network.
func (Host) ListenTCP(local netip.AddrPort) (*net.TCPListener, error) {
	return net.ListenTCP("tcp", net.TCPAddrFromAddrPort(local))
}

// DialTCP implements Network.
func (Host) DialTCP(local, remote netip.AddrPort, timeout time.Duration) (*net.TCPConn, error) {
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(local), Timeout: timeout}
	c, err := d.Dial("tcp", remote.String())
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), nil
}

// socket is a phone's one transport.
type socket interface {
	send(b []byte, to netip.AddrPort) error
	receive() ([]byte, netip.AddrPort, error) // one whole message; an error ends the socket
	local() netip.AddrPort
	close()
}

type udpSocket struct {
	conn *net.UDPConn
	buf  []byte
}

func (s *udpSocket) send(b []byte, to netip.AddrPort) error {
	_, err := s.conn.WriteToUDPAddrPort(b, to)
	return err
}

func (s *udpSocket) receive() ([]byte, netip.AddrPort, error) {
	for {
		n, from, err := s.conn.ReadFromUDPAddrPort(s.buf)
		if err != nil {
			return nil, netip.AddrPort{}, err
		}
		// Keep-alives (RFC 5626 §4.4.1 over UDP in practice: CRLF or NULs) are no messages.
		if b := bytes.Trim(s.buf[:n], "\r\n\x00 "); len(b) == 0 {
			continue
		}
		return s.buf[:n], netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), nil
	}
}

func (s *udpSocket) local() netip.AddrPort { return s.conn.LocalAddr().(*net.UDPAddr).AddrPort() }
func (s *udpSocket) close()                { _ = s.conn.Close() }

// ReadMessage reads one message from a stream, by its Content-Length (RFC 3261 §18.3), past any keep-alives.
func ReadMessage(r *bufio.Reader) ([]byte, error) {
	var msg []byte
	length := 0
	for {
		line, err := r.ReadBytes('\n')
		if err != nil {
			if len(msg) > 0 && errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
		empty := len(bytes.TrimRight(line, "\r\n")) == 0
		if empty && len(msg) == 0 {
			continue
		}
		msg = append(msg, line...)
		if empty {
			break
		}
		name, value, _ := strings.Cut(string(line), ":")
		if name = strings.ToLower(strings.TrimSpace(name)); name == "content-length" || name == "l" {
			if length, err = strconv.Atoi(strings.TrimSpace(value)); err != nil {
				return nil, fmt.Errorf("read Content-Length: %w", err)
			}
		}
	}
	body := make([]byte, length)
	if _, err := io.ReadFull(r, body); err != nil {
		return nil, fmt.Errorf("read a body of %d bytes: %w", length, err)
	}
	return append(msg, body...), nil
}
