package demo

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/emiago/sipgo/sip"

	"sipward/cmd/sipward/internal/demo/phone"
)

// guessed are what a dictionary would try first: more than a register guard lets pass (10).
var guessed = []string{
	"1001", "1234", "password", "admin", "secret", "12345678",
	"1001pass", "voip", "asterisk", "changeme", "qwerty", "letmein",
}

// guess tries to register as the good phone's account. It gives up after three tries without an
// answer.
func (s *stage) guess(ctx context.Context, r *result) error {
	silent := 0
	for _, password := range guessed {
		if silent == 3 {
			return nil
		}
		p, err := phone.Listen(phone.Config{
			Local: addrGuesser, Server: s.edge, User: s.accounts[0].User, Password: password, Agent: "Grandstream GXP1625 1.0.4.140",
		})
		if err != nil {
			return fmt.Errorf("make the guesser: %w", err)
		}
		r.guesses++
		try, cancel := context.WithTimeout(ctx, 250*time.Millisecond)
		res, err := p.Register(try, time.Minute)
		cancel()
		if cerr := p.Close(); cerr != nil {
			return fmt.Errorf("close the guesser: %w", cerr)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		switch {
		case err != nil:
			silent++
		case res.StatusCode == sip.StatusOK:
			return errors.New("the guesser guessed a random password")
		default:
			r.refused++
		}
	}
	return nil
}

// The scanner's and the denied address's messages are written by hand: they are no phones.
const (
	probe = "OPTIONS sip:%[4]d@%[1]s SIP/2.0\r\n" +
		"Via: SIP/2.0/UDP %[2]s;branch=z9hG4bK%[3]s%[4]d;rport\r\n" +
		"Max-Forwards: 70\r\n" +
		"From: \"sipvicious\" <sip:100@1.1.1.1>;tag=%[3]s%[4]d\r\n%[5]s" +
		"To: \"sipvicious\" <sip:100@1.1.1.1>\r\n" +
		"Call-ID: %[3]s%[4]d\r\nCSeq: 1 OPTIONS\r\n" +
		"Contact: <sip:100@%[2]s>\r\nUser-Agent: friendly-scanner\r\nContent-Length: 0\r\n\r\n"
	// greeting is what a phone might ask a PBX now and then.
	greeting = "OPTIONS sip:600@%[1]s SIP/2.0\r\n" +
		"Via: SIP/2.0/UDP %[2]s;branch=z9hG4bK%[3]s%[4]d;rport\r\n" +
		"Max-Forwards: 70\r\n" +
		"From: <sip:1002@%[1]s>;tag=%[3]s%[4]d\r\n%[5]s" +
		"To: <sip:600@%[1]s>\r\n" +
		"Call-ID: %[3]s%[4]d\r\nCSeq: 1 OPTIONS\r\n" +
		"Contact: <sip:1002@%[2]s>\r\nContent-Length: 0\r\n\r\n"
	secondFrom = "From: <sip:1001@127.0.0.1>;tag=other\r\n"
	fraud      = "INVITE sip:900442%09[4]d@%[1]s SIP/2.0\r\n" +
		"Via: SIP/2.0/UDP %[2]s;branch=z9hG4bK%[3]s%[4]d;rport\r\n" +
		"Max-Forwards: 70\r\n" +
		"From: <sip:1001@%[1]s>;tag=%[3]s%[4]d\r\nTo: <sip:900442%09[4]d@%[1]s>\r\n" +
		"Call-ID: %[3]s%[4]d\r\nCSeq: 1 INVITE\r\n" +
		"Contact: <sip:1001@%[2]s>\r\nContent-Length: 0\r\n\r\n"
)

// sender speaks plain UDP from one address.
type sender struct {
	conn *net.UDPConn
	edge netip.AddrPort
	id   string
	n    int
}

func (s *stage) sender(from netip.Addr) (*sender, error) {
	conn, err := net.DialUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(from, 0)), net.UDPAddrFromAddrPort(s.edge))
	if err != nil {
		return nil, fmt.Errorf("send from %s: %w", from, err)
	}
	return &sender{conn: conn, edge: s.edge, id: sip.GenerateTagN(8)}, nil
}

// send fills in a message and sends it.
func (a *sender) send(format, extra string) error {
	a.n++
	if _, err := fmt.Fprintf(a.conn, format, a.edge, a.conn.LocalAddr(), a.id, a.n, extra); err != nil {
		return fmt.Errorf("send a message: %w", err)
	}
	return nil
}

// answers counts what comes back within a time.
func (a *sender) answers(wait time.Duration) (int, error) {
	if err := a.conn.SetReadDeadline(time.Now().Add(wait)); err != nil {
		return 0, fmt.Errorf("wait for answers: %w", err)
	}
	b := make([]byte, 4096)
	for n := 0; ; n++ {
		if _, err := a.conn.Read(b); errors.Is(err, os.ErrDeadlineExceeded) {
			return n, nil
		} else if err != nil {
			return n, fmt.Errorf("wait for answers: %w", err)
		}
	}
}

// scan looks for extensions.
func (s *stage) scan(_ context.Context, r *result) error {
	a, err := s.sender(addrScanner)
	if err != nil {
		return err
	}
	defer a.conn.Close()
	r.probes = 5
	for range r.probes {
		if err := a.send(probe, ""); err != nil {
			return err
		}
	}
	if r.probeAnswers, err = a.answers(150 * time.Millisecond); err != nil {
		return err
	}
	return nil
}

// broken sends something malformed, then floods for a moment. It carries no marks of an
// attack tool.
func (s *stage) broken(ctx context.Context, r *result) error {
	a, err := s.sender(addrBroken)
	if err != nil {
		return err
	}
	defer a.conn.Close()
	if err := errors.Join(a.send(greeting, secondFrom), pause(ctx, breath)); err != nil {
		return err
	}
	for range 20 {
		for range 50 {
			r.burst++
			if err := a.send(greeting, ""); err != nil {
				return err
			}
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// denied tries to call abroad at somebody's cost.
func (s *stage) denied(_ context.Context, r *result) error {
	a, err := s.sender(addrDenied)
	if err != nil {
		return err
	}
	defer a.conn.Close()
	r.deniedSent = 3
	for range r.deniedSent {
		if err := a.send(fraud, ""); err != nil {
			return err
		}
	}
	r.deniedAnswers, err = a.answers(250 * time.Millisecond)
	return err
}
