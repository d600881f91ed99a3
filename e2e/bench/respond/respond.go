//go:build linux

// Package respond is the PBX of the peer benchmark: it answers every request at once and keeps no
// state, so that it never is what saturates. REGISTER gets 200 (with a challenge first, if its Call-ID
// ends in @login.invalid and it has no credentials),
// INVITE gets 180 and 200, ACK nothing, all else 200.
package respond

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"runtime"

	"sipward/e2e/bench/mmsg"
)

const batch = 64

// Responder answers on one socket with one thread.
type Responder struct {
	sock    *mmsg.Socket
	contact []byte // "Contact: <sip:…>" line of answers to INVITE
}

// Listen binds the responder.
func Listen(listen netip.AddrPort, opt mmsg.Options) (*Responder, error) {
	s, err := mmsg.Listen(listen, opt)
	if err != nil {
		return nil, err
	}
	local, err := s.LocalAddr()
	if err != nil {
		return nil, err
	}
	return &Responder{sock: s, contact: fmt.Appendf(nil, "Contact: <sip:echo@%s>\r\n", local)}, nil
}

// LocalAddr is the bound address.
func (r *Responder) LocalAddr() (netip.AddrPort, error) { return r.sock.LocalAddr() }

// Close releases the socket.
func (r *Responder) Close() error { return r.sock.Close() }

// Run answers until the socket fails or its receive timeout passes without a datagram.
func (r *Responder) Run() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	in, out := mmsg.NewBatch(batch), mmsg.NewBatch(2*batch)
	for {
		n, err := r.sock.Receive(in)
		if errors.Is(err, mmsg.ErrTimeout) {
			return nil
		}
		if err != nil {
			return err
		}
		answers := 0
		for i := range n {
			answers += r.answer(in.Data(i), in.Peer(i), out, answers)
		}
		r.sock.Send(out, 0, answers)
	}
}

// answer puts the answers to one request into the slots of out from at on, and returns how many.
func (r *Responder) answer(req []byte, peer uint64, out *mmsg.Batch, at int) int {
	q, ok := scan(req)
	if !ok {
		return 0
	}
	put := func(n int, status string, f func([]byte) []byte) {
		b := out.Slot(at + n)
		msg := r.write(b[:0], &q, status, f)
		if len(msg) > len(b) {
			msg = msg[:len(b)]
		}
		out.Set(at+n, 0, len(msg))
		out.SetPeer(at+n, peer)
	}
	switch q.method {
	case ack:
		return 0
	case invite:
		put(0, "180 Ringing", r.empty)
		put(1, "200 OK", r.session)
		return 2
	case register:
		if q.login && !q.authorized {
			put(0, "401 Unauthorized", r.unauthorized)
			return 1
		}
		put(0, "200 OK", func(b []byte) []byte { return r.binding(b, q.contact) })
		return 1
	}
	put(0, "200 OK", r.empty)
	return 1
}

// write builds one answer: the copied headers of RFC 3261 §8.2.6, then what tail adds.
func (r *Responder) write(b []byte, q *request, status string, tail func([]byte) []byte) []byte {
	b = append(b, "SIP/2.0 "...)
	b = append(b, status...)
	b = append(b, "\r\n"...)
	for _, l := range q.copied[:q.lines] {
		b = append(b, l...)
	}
	b = append(b, q.to...)
	if !q.tagged {
		b = append(b, ";tag=pbx"...)
	}
	b = append(b, "\r\n"...)
	return tail(b)
}

func (r *Responder) empty(b []byte) []byte { return append(b, "Content-Length: 0\r\n\r\n"...) }

func (r *Responder) session(b []byte) []byte {
	const sdp = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 40000 RTP/AVP 0 8 101\r\na=rtpmap:101 telephone-event/8000\r\na=sendrecv\r\n"
	b = append(b, r.contact...)
	b = append(b, "Content-Type: application/sdp\r\nContent-Length: "...)
	b = append(b, '0'+byte(len(sdp)/100%10), '0'+byte(len(sdp)/10%10), '0'+byte(len(sdp)%10))
	b = append(b, "\r\n\r\n"...)
	return append(b, sdp...)
}

func (r *Responder) unauthorized(b []byte) []byte {
	b = append(b, "WWW-Authenticate: Digest realm=\"bench\", nonce=\"67a1b2c3d4e5f60718293a4b5c6d7e8f\", algorithm=MD5, qop=\"auth\"\r\n"...)
	return r.empty(b)
}

func (r *Responder) binding(b, contact []byte) []byte {
	b = append(b, bytes.TrimRight(contact, "\r\n")...)
	if len(contact) > 0 {
		b = append(b, ";expires=300\r\n"...)
	}
	return r.empty(b)
}
