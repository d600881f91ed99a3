package demo_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sipward/admin/logtest"
	"sipward/cmd/sipward/internal/demo"
	"sipward/policy/event"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pipe stands for sipward where only the demonstration is tested: datagrams to the PBX and back,
// each client with a socket of its own.
func pipe(ctx context.Context, s demo.Setup) error {
	front, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(s.Listen))
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	var backs sync.Map
	wg.Go(func() {
		<-ctx.Done()
		front.Close()
		backs.Range(func(_, c any) bool { c.(*net.UDPConn).Close(); return true })
	})
	defer wg.Wait()
	b := make([]byte, 65536)
	for {
		n, from, err := front.ReadFromUDPAddrPort(b)
		if err != nil {
			return nil
		}
		c, known := backs.Load(from)
		if !known {
			conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(s.PBX))
			if err != nil {
				return err
			}
			backs.Store(from, conn)
			c = conn
			wg.Go(func() {
				b := make([]byte, 65536)
				for {
					n, err := conn.Read(b)
					if err != nil {
						return
					}
					front.WriteToUDPAddrPort(b[:n], from)
				}
			})
		}
		c.(*net.UDPConn).Write(b[:n])
	}
}

func TestRound(t *testing.T) {
	var out logtest.Buffer
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	begin := time.Now()
	go func() {
		done <- demo.Run(ctx, demo.Options{Out: &out, Script: true, Start: func(s demo.Setup) (demo.Edge, error) {
			return demo.Edge{Events: new(event.Bus), Run: func(ctx context.Context) error { return pipe(ctx, s) }}, nil
		}})
	}()
	out.Await(t, "Now you.", time.Minute)
	took := time.Since(begin)
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if took > 45*time.Second { // 4 s on a quiet machine
		t.Errorf("the round took %v", took)
	}
	for _, want := range []string{
		"heard 25 of its 25 packets", "tried 12 passwords; the PBX refused all", "5 answers to its 5 probes", "user             1002", "call             600",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing:\n%s", want, out.String())
		}
	}
}

func TestStartFails(t *testing.T) {
	want := errors.New("no such luck")
	err := demo.Run(t.Context(), demo.Options{Out: new(logtest.Buffer), Start: func(demo.Setup) (demo.Edge, error) { return demo.Edge{}, want }})
	if !errors.Is(err, want) {
		t.Errorf("got %v", err)
	}
}

// The port is taken between looking and binding: the next one will do.
func TestPortIsSnatched(t *testing.T) {
	var thief net.Listener
	tries := 0
	err := demo.Run(t.Context(), demo.Options{Out: new(logtest.Buffer), Start: func(s demo.Setup) (demo.Edge, error) {
		if tries++; tries == 1 {
			var err error
			if thief, err = net.Listen("tcp", s.Listen.String()); err != nil {
				t.Error(err)
			}
			return demo.Edge{}, errors.New("address in use")
		}
		return demo.Edge{}, errors.New("enough")
	}})
	if thief != nil {
		thief.Close()
	}
	if tries != 2 || err == nil {
		t.Errorf("%d tries, %v", tries, err)
	}
}

func TestEdgeBreaksDown(t *testing.T) {
	want := errors.New("broken")
	err := demo.Run(t.Context(), demo.Options{Out: new(logtest.Buffer), Start: func(demo.Setup) (demo.Edge, error) {
		return demo.Edge{Events: new(event.Bus), Run: func(context.Context) error { return want }}, nil
	}})
	if !errors.Is(err, want) {
		t.Errorf("got %v", err)
	}
}

// Another program on 5060 makes the demonstration take the next free port.
func TestPortInUse(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:5060")
	if err == nil {
		defer taken.Close()
	} // else somebody has it already
	ctx, cancel := context.WithCancel(t.Context())
	var got demo.Setup
	err = demo.Run(ctx, demo.Options{Out: new(logtest.Buffer), Start: func(s demo.Setup) (demo.Edge, error) {
		got = s
		return demo.Edge{Events: new(event.Bus), Run: func(context.Context) error { cancel(); return nil }}, nil
	}})
	if err != nil {
		t.Error(err)
	}
	if got.Listen.Port() == 5060 || !got.Listen.IsValid() {
		t.Errorf("got %v", got.Listen)
	}
}
