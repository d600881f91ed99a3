package upstream

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"time"

	"sipward/policy"
)

// retransmitAfter is T1 of RFC 3261 §17.1.2.2: a lost probe is sent again
// rather than counted.
const retransmitAfter = 500 * time.Millisecond

// probe returns nil if the PBX answers in time. Over UDP any final response
// will do, whatever its status: also a PBX that refuses our OPTIONS is alive.
func (cfg *Config) probe(ctx context.Context, link *Link) error {
	ctx, cancel := context.WithTimeout(ctx, cfg.Timeout)
	defer cancel()
	var err error
	if link.Transport == policy.UDP {
		err = cfg.ask(ctx, link.Addr)
	} else {
		err = cfg.connect(ctx, link)
	}
	if err != nil {
		return fmt.Errorf("probe PBX: %w", err)
	}
	return nil
}

// local returns the address to probe dst from, with any port; invalid: the system's choice.
func (cfg *Config) local(dst netip.AddrPort) (from netip.AddrPort) {
	if cfg.Local == nil {
		return from
	}
	if a := cfg.Local(dst.Addr()); a.IsValid() {
		from = netip.AddrPortFrom(a, 0)
	}
	return from
}

// connect opens a connection and closes it.
func (cfg *Config) connect(ctx context.Context, link *Link) error {
	var d net.Dialer
	if from := cfg.local(link.Addr); from.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(from)
	}
	conn, err := d.DialContext(ctx, "tcp", link.Addr.String())
	if err != nil {
		return err
	}
	defer conn.Close()
	if link.Transport != policy.TLS {
		return nil
	}
	return tls.Client(conn, link.TLS).HandshakeContext(ctx)
}

// ask asks for OPTIONS over UDP.
func (cfg *Config) ask(ctx context.Context, pbx netip.AddrPort) error {
	var d net.Dialer
	if from := cfg.local(pbx); from.IsValid() {
		d.LocalAddr = net.UDPAddrFromAddrPort(from)
	}
	// The UDP socket is connected, so that a refusal (ICMP port unreachable)
	// comes back as an error at once; it is a new one each time, so that what
	// comes late to an old probe does not disturb this one.
	conn, err := d.DialContext(ctx, "udp", pbx.String())
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	return exchange(ctx, conn, newPing(conn.LocalAddr().String(), pbx.String()))
}

// exchange sends the ping, again each time that T1 has passed (doubled each
// time), and returns nil when it is answered.
func exchange(ctx context.Context, conn net.Conn, p ping) error {
	buf := make([]byte, 65535)
	for again := retransmitAfter; ; again *= 2 {
		if _, err := conn.Write(p.text); err != nil {
			return err
		}
		conn.SetReadDeadline(time.Now().Add(again))
		if ctx.Err() != nil { // its AfterFunc may have come before our deadline
			return errNoAnswer
		}
		for {
			n, err := conn.Read(buf)
			if ne, ok := err.(net.Error); ok && ne.Timeout() {
				break
			} else if err != nil {
				return err
			}
			if p.answeredBy(buf[:n]) {
				return nil
			}
		}
		if ctx.Err() != nil {
			return errNoAnswer
		}
	}
}

type probeError string

func (e probeError) Error() string { return string(e) }

// errNoAnswer: the PBX was silent for the whole timeout.
const errNoAnswer = probeError("no answer to OPTIONS")

// ping is an OPTIONS request and what makes its answer known.
type ping struct {
	text           []byte
	branch, callID string
}

// newPing makes an OPTIONS request outside of any dialog (RFC 3261 §11.1).
func newPing(local, pbx string) ping {
	p := ping{branch: "z9hG4bK" + rand.Text(), callID: rand.Text()}
	p.text = fmt.Appendf(nil, "OPTIONS sip:%[1]s SIP/2.0\r\n"+
		"Via: SIP/2.0/UDP %[2]s;rport;branch=%[3]s\r\n"+
		"Max-Forwards: 70\r\n"+
		"From: <sip:ping@%[2]s>;tag=%[4]s\r\n"+
		"To: <sip:ping@%[1]s>\r\n"+
		"Call-ID: %[5]s\r\n"+
		"CSeq: 1 OPTIONS\r\n"+
		"Contact: <sip:ping@%[2]s>\r\n"+
		"Accept: application/sdp\r\n"+
		"User-Agent: sipward\r\n"+
		"Content-Length: 0\r\n\r\n",
		pbx, local, p.branch, rand.Text(), p.callID)
	return p
}

// answeredBy says whether b is a final response to the ping. The branch and
// the Call-ID are random and go to the PBX alone, so who repeats both has got
// the request (RFC 3261 §17.1.3). A PBX whose answer is odd otherwise is still
// alive; so nothing else is asked of it.
func (p ping) answeredBy(b []byte) bool {
	status, ok := bytes.CutPrefix(b, []byte("SIP/2.0 "))
	return ok && len(status) > 3 && status[0] >= '2' && status[0] <= '6' &&
		bytes.Contains(b, []byte(p.branch)) && bytes.Contains(b, []byte(p.callID))
}
