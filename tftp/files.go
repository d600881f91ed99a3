package tftp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	pin "github.com/pin/tftp/v3"
	"golang.org/x/sys/unix"
)

// Files is a TFTP server for one folder, read only, for those who have none. It listens
// on a port of the loopback that the system chooses, and is meant to stand behind a
// Server: it has no limits of its own.
type Files struct {
	root   *os.Root
	conn   *net.UDPConn
	server *pin.Server
}

// NewFiles opens the folder and the port.
func NewFiles(dir string) (*Files, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("serve files by TFTP: %w", err)
	}
	conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
	if err != nil {
		root.Close()
		return nil, fmt.Errorf("serve files by TFTP: %w", err)
	}
	f := &Files{root: root, conn: conn}
	f.server = pin.NewServer(f.read, nil)
	f.server.SetTimeout(time.Second)
	f.server.SetBlockSizeNegotiation(false) // the MTU that matters is not that of the loopback
	return f, nil
}

// Addr returns where it listens.
func (f *Files) Addr() netip.AddrPort { return f.conn.LocalAddr().(*net.UDPAddr).AddrPort() }

// Run serves until ctx ends. Transfers that are under way then may go on for some
// seconds, unless who asked for them ends them.
func (f *Files) Run(ctx context.Context) error {
	defer f.root.Close()
	ended := make(chan error, 1)
	go func() { ended <- f.server.Serve(f.conn) }()
	select {
	case <-ctx.Done():
		f.server.Shutdown()
		return <-ended
	case err := <-ended:
		return err
	}
}

// Close gives up Files that were never run.
func (f *Files) Close() {
	f.conn.Close()
	f.root.Close()
}

// read sends a file. Whatever the name says, it does not lead out of the folder, nor does
// a symbolic link there.
func (f *Files) read(name string, to io.ReaderFrom) error {
	// Without waiting: a pipe must not hold up a transfer for ever.
	file, err := f.root.OpenFile(strings.TrimLeft(name, "/"), os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		if errors.Is(err, fs.ErrPermission) {
			return errors.New("access violation")
		}
		return errors.New("file not found") // and not where the folder is
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return errors.New("file not found")
	}
	_, err = to.ReadFrom(file)
	return err
}
