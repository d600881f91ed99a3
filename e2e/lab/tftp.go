//go:build linux

package lab

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TFTPServer is an unmodified TFTP server on a PBX's address.
type TFTPServer struct {
	Process *Process
	Dir     string // whose files it has
}

// StartTFTP starts Debian's tftpd-hpa, which repeats what is not acknowledged after 200 ms.
func (l *Lab) StartTFTP(t *testing.T, at netip.AddrPort) *TFTPServer {
	t.Helper()
	return l.startTFTP(t, at, func(dir string) []string {
		return []string{"in.tftpd", "-L", "-a", at.String(), "-u", "nobody", "-T", "200000", "-s", dir}
	})
}

// StartATFTP starts Debian's atftpd, which knows windowsize (RFC 7440).
func (l *Lab) StartATFTP(t *testing.T, at netip.AddrPort) *TFTPServer {
	t.Helper()
	return l.startTFTP(t, at, func(dir string) []string {
		return []string{atftpd(), "--daemon", "--no-fork", "--user", "nobody.nogroup", "--bind-address", at.Addr().String(),
			"--port", fmt.Sprint(at.Port()), "--logfile", "-", "--verbose=7", "--trace", dir}
	})
}

// atftpd is where e2e/setup.sh has unpacked it.
func atftpd() string { return cached("atftpd/usr/sbin/atftpd") }

func (l *Lab) startTFTP(t *testing.T, at netip.AddrPort, argv func(dir string) []string) *TFTPServer {
	t.Helper()
	dir, err := os.MkdirTemp(l.dir, "files-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	s := &TFTPServer{Dir: dir}
	s.File(t, "ready", 1)
	if s.Process, err = l.Start(l.PBX, "tftpd", argv(dir)...); err != nil {
		t.Fatal(err)
	}
	conn, err := l.PBX.ListenUDP(netip.AddrPortFrom(at.Addr(), 0))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	Poll(t, 10*time.Second, "the TFTP server serves", func() error { return askTFTP(conn, at) })
	return s
}

// askTFTP asks for the file that is there.
func askTFTP(conn *net.UDPConn, at netip.AddrPort) error {
	if _, err := conn.WriteToUDPAddrPort([]byte("\x00\x01ready\x00octet\x00"), at); err != nil {
		return err
	}
	if err := conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
		return err
	}
	b := make([]byte, 600)
	_, from, err := conn.ReadFromUDPAddrPort(b)
	if err != nil {
		return err
	}
	_, err = conn.WriteToUDPAddrPort([]byte{0, 4, 0, 1}, from)
	return err
}

// File makes a file of the server, readable for all, and returns what is in it.
func (s *TFTPServer) File(t *testing.T, name string, size int) []byte {
	t.Helper()
	b := make([]byte, size)
	src := rand.NewChaCha8([32]byte{byte(size), 7})
	_, _ = src.Read(b) // never fails
	if err := os.WriteFile(filepath.Join(s.Dir, name), b, 0o644); err != nil {
		t.Fatal(err)
	}
	return b
}
