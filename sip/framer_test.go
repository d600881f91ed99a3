package sip_test

import (
	"bytes"
	"strings"
	"testing"

	"sipward/sip"
	"sipward/sip/siptest"
)

// frames feeds stream in the given pieces and returns the messages, the number
// of pings and the fault that ended it.
func frames(f *sip.Framer, stream []byte, piece func(left int) int) (msgs []string, pings int, fault sip.Fault) {
	start := 0
	for end := 0; end < len(stream); {
		end += piece(len(stream) - end)
		for {
			kind, n, fault := f.Next(stream[start:end])
			if fault != sip.OK {
				return msgs, pings, fault
			}
			switch kind {
			case sip.FrameMessage:
				msgs = append(msgs, string(stream[start:start+n]))
			case sip.FramePing:
				pings++
			}
			if start += n; kind == sip.NeedMore || start == end {
				break
			}
		}
	}
	return msgs, pings, sip.OK
}

func whole(left int) int { return left }
func byByte(int) int     { return 1 }

func TestFramer(t *testing.T) {
	reg := string(siptest.Register(siptest.Options{Transport: "TCP"}))
	inv := string(siptest.Invite(siptest.Options{Transport: "TCP"}))
	compact := "OPTIONS sip:a SIP/2.0\r\nl:\r\n 3\r\nX: y\r\n\r\nabc"
	for name, c := range map[string]struct {
		stream string
		msgs   []string
		pings  int
		fault  sip.Fault
	}{
		"three in one":      {reg + inv + compact, []string{reg, inv, compact}, 0, 0},
		"keep-alives":       {"\r\n\r\n" + reg + "\r\n" + inv + "\r\n\r\n\r\n" + reg, []string{reg, inv, reg}, 2, 0},
		"not complete":      {reg + inv[:len(inv)-1], []string{reg}, 0, 0},
		"no length":         {"OPTIONS sip:a SIP/2.0\r\nX: y\r\n\r\n", nil, 0, sip.FaultMissingLength},
		"two lengths":       {"OPTIONS sip:a SIP/2.0\r\nl: 3\r\nContent-Length: 4\r\n\r\n", nil, 0, sip.FaultContentLength},
		"same length twice": {"OPTIONS sip:a SIP/2.0\r\nl: 0\r\nContent-Length : 00\r\n\r\n", []string{"OPTIONS sip:a SIP/2.0\r\nl: 0\r\nContent-Length : 00\r\n\r\n"}, 0, 0},
		"negative":          {"OPTIONS sip:a SIP/2.0\r\nl: -1\r\n\r\n", nil, 0, sip.FaultContentLength},
		"plus":              {"OPTIONS sip:a SIP/2.0\r\nl: +1\r\n\r\na", nil, 0, sip.FaultContentLength},
		"list":              {"OPTIONS sip:a SIP/2.0\r\nl: 1, 1\r\n\r\na", nil, 0, sip.FaultContentLength},
		"overflow":          {"OPTIONS sip:a SIP/2.0\r\nl: 18446744073709551617\r\n\r\na", nil, 0, sip.FaultContentLength},
		"empty length":      {"OPTIONS sip:a SIP/2.0\r\nl:\r\n\r\n", nil, 0, sip.FaultContentLength},
		"too long":          {"OPTIONS sip:a SIP/2.0\r\nl: 5000\r\n\r\n", nil, 0, sip.FaultTooBig},
		"head too long":     {"OPTIONS sip:a SIP/2.0\r\nX: " + strings.Repeat("x", 2000) + "\r\n\r\n", nil, 0, sip.FaultTooBig},
		"bare LF":           {"OPTIONS sip:a SIP/2.0\nl: 0\n\n", nil, 0, sip.FaultLineEnd},
		"bare LF later":     {"OPTIONS sip:a SIP/2.0\r\nl: 0\n\r\n", nil, 0, sip.FaultLineEnd},
		"CR alone":          {"\rOPTIONS", nil, 0, sip.FaultLineEnd},
		"TLS":               {"\x16\x03\x01\x02\x00", nil, 0, sip.FaultStartLine},
		"no colon":          {"OPTIONS sip:a SIP/2.0\r\nContent-Length 4\r\nl: 0\r\n\r\n", nil, 0, sip.FaultHeaderSyntax},
		"hidden by a fold":  {"OPTIONS sip:a SIP/2.0\r\nX: y\r\n l: 4\r\nl: 0\r\n\r\n", []string{"OPTIONS sip:a SIP/2.0\r\nX: y\r\n l: 4\r\nl: 0\r\n\r\n"}, 0, 0},
		"blank fold":        {"OPTIONS sip:a SIP/2.0\r\nX: y\r\n \r\nl: 0\r\n\r\n", nil, 0, sip.FaultFold},
	} {
		t.Run(name, func(t *testing.T) {
			for how, piece := range map[string]func(int) int{"whole": whole, "byte by byte": byByte} {
				msgs, pings, fault := frames(&sip.Framer{MaxHeader: 1500, MaxMessage: 4000}, []byte(c.stream), piece)
				if strings.Join(msgs, "|") != strings.Join(c.msgs, "|") || pings != c.pings || fault != c.fault {
					t.Errorf("%s: %d pings, %v, messages %q", how, pings, fault, msgs)
				}
			}
		})
	}
}

// What a framer lets through, the scanner must cut in the same place.
func TestFramerAgreesWithScanner(t *testing.T) {
	var f sip.Framer
	raw := siptest.Invite(siptest.Options{Transport: "TCP"})
	_, n, _ := f.Next(append(bytes.Clone(raw), "\r\n\r\n"...))
	var m sip.Message
	if fault := m.Parse(raw[:n], true); fault != sip.OK || n != len(raw) {
		t.Errorf("%v, %d of %d bytes", fault, n, len(raw))
	}
	if fault := m.Parse(raw[:n-1], true); fault != sip.FaultBodyLength {
		t.Errorf("cut short: %v", fault)
	}
	if fault := m.Parse(append(bytes.Clone(raw), 'x'), true); fault != sip.FaultBodyLength {
		t.Errorf("too long: %v", fault)
	}
}

// Two pieces, cut at each position, give what one piece gives.
func TestFramerCuts(t *testing.T) {
	reg := string(siptest.Register(siptest.Options{Transport: "TCP"}))
	inv := string(siptest.Invite(siptest.Options{Transport: "TCP"}))
	stream := []byte("\r\n" + reg + inv + "\r\n\r\n" + reg)
	for cut := 1; cut < len(stream); cut++ {
		first := true
		msgs, pings, fault := frames(&sip.Framer{}, stream, func(left int) int {
			if first {
				first = false
				return cut
			}
			return left
		})
		if fault != sip.OK || pings != 1 || strings.Join(msgs, "") != reg+inv+reg {
			t.Fatalf("cut at %d: %d messages, %d pings, %v", cut, len(msgs), pings, fault)
		}
	}
}

func TestFramerWant(t *testing.T) {
	inv := siptest.Invite(siptest.Options{Transport: "TCP"})
	var f sip.Framer
	head := bytes.Index(inv, []byte("\r\n\r\n")) + 4
	for n, want := range map[int]int{head - 1: 0, head: len(inv), len(inv) - 1: len(inv)} {
		var f sip.Framer
		if kind, used, fault := f.Next(inv[:n]); kind != sip.NeedMore || used != 0 || fault != sip.OK || f.Want() != want {
			t.Errorf("after %d bytes: %v, %d, %v, Want %d", n, kind, used, fault, f.Want())
		}
	}
	if kind, _, _ := f.Next(inv); kind != sip.FrameMessage || f.Want() != 0 {
		t.Errorf("whole: %v, Want %d", kind, f.Want())
	}
	if kind, n, fault := f.Next(nil); kind != sip.NeedMore || n != 0 || fault != sip.OK {
		t.Errorf("nothing: %v, %d, %v", kind, n, fault)
	}
}
