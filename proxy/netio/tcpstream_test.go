package netio_test

import (
	"io"
	"testing"

	"pgregory.net/rapid"

	"sipward/proxy/netio"
)

// TestTCPAnyCut sends random sequences of messages and keep-alives, cut at
// random places: each message arrives whole and in order, each keep-alive is
// answered. Sizes lie around those of the receive buffers.
func TestTCPAnyCut(t *testing.T) {
	h := newStream()
	const maxMessage = 64 << 10
	tcp := runTCP(t, netio.TCPConfig{MaxMessage: maxMessage, MaxPerSource: 10_000}, h, "127.0.0.1:0")
	head := len(options("x", 10_000)) - 10_000
	rapid.Check(t, func(rt *rapid.T) {
		size := rapid.Custom(func(rt *rapid.T) int {
			edge := rapid.SampledFrom([]int{head + 10, 4096, 16384, maxMessage}).Draw(rt, "edge")
			return min(edge+rapid.IntRange(-3, 3).Draw(rt, "around"), maxMessage)
		})
		sizes := rapid.SliceOfN(size, 1, 6).Draw(rt, "sizes")
		pings := rapid.SliceOfN(rapid.Bool(), len(sizes), len(sizes)).Draw(rt, "pings")
		var all string
		var want []string
		answers := 0
		for i, n := range sizes {
			msg := options("x", n-head)
			for len(msg) > n { // fewer digits in its length
				msg = options("x", n-head-1)
			}
			want = append(want, msg)
			all += msg
			if pings[i] {
				all += "\r\n\r\n"
				answers += 2
			}
		}
		c := dial(t, "", tcp.LocalAddr(0))
		defer c.Close()
		for rest := all; rest != ""; {
			n := min(rapid.OneOf(rapid.IntRange(1, 20), rapid.IntRange(1, 70_000)).Draw(rt, "segment"), len(rest))
			if len(rest) > 3000 && n < 20 { // not all of it byte by byte
				n *= 100
			}
			write(t, c, rest[:n])
			rest = rest[n:]
		}
		for i, w := range want {
			if got := wait(t, h.messages, "message"); got != w {
				rt.Fatalf("message %d: got %d bytes, want %d", i, len(got), len(w))
			}
		}
		if _, err := io.ReadFull(c, make([]byte, answers)); err != nil {
			rt.Fatalf("%d bytes of answers to keep-alives: %v", answers, err)
		}
	})
}
