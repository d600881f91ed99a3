package pbx

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

var errNoAudio = errors.New("no audio that can be echoed")

// answerSDP answers an offer (RFC 3264) with its first codec, which the echo needs not to
// understand. An INVITE without an offer gets one of ours.
func answerSDP(offer []byte, media netip.AddrPort) ([]byte, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "v=0\r\no=- 1 1 IN IP4 %s\r\ns=sipward demo\r\nc=IN IP4 %s\r\nt=0 0\r\n", media.Addr(), media.Addr())
	if len(offer) == 0 {
		fmt.Fprintf(&b, "m=audio %d RTP/AVP 0 8\r\na=sendrecv\r\n", media.Port())
		return []byte(b.String()), nil
	}
	answered := false
	for _, s := range sections(string(offer)) {
		f := strings.Fields(s[0])
		if len(f) < 4 {
			return nil, errNoAudio
		}
		if answered || f[0] != "m=audio" || f[1] == "0" || !slices.Contains([]string{"RTP/AVP", "RTP/AVPF"}, f[2]) {
			// Every m= line is answered; port 0 refuses (RFC 3264 §6).
			fmt.Fprintf(&b, "%s 0 %s\r\n", f[0], strings.Join(f[2:], " "))
			continue
		}
		answered = true
		writeAudio(&b, f, s[1:], media.Port())
	}
	if !answered {
		return nil, errNoAudio
	}
	return []byte(b.String()), nil
}

// sections splits a description into its m= lines, each with what follows it.
func sections(sdp string) (out [][]string) {
	for line := range strings.Lines(sdp) {
		line = strings.TrimRight(line, "\r\n")
		switch {
		case strings.HasPrefix(line, "m="):
			out = append(out, []string{line})
		case len(out) > 0:
			out[len(out)-1] = append(out[len(out)-1], line)
		}
	}
	return out
}

// writeAudio accepts the first codec and, if offered, telephone events.
func writeAudio(b *strings.Builder, m, attributes []string, port uint16) {
	types := []string{m[3]}
	for _, a := range attributes {
		if pt, name, ok := strings.Cut(strings.TrimPrefix(a, "a=rtpmap:"), " "); ok && strings.HasPrefix(name, "telephone-event/") && pt != m[3] {
			types = append(types, pt)
			break
		}
	}
	fmt.Fprintf(b, "m=audio %d %s %s\r\n", port, m[2], strings.Join(types, " "))
	direction := "a=sendrecv"
	for _, a := range attributes {
		name, rest, _ := strings.Cut(a, ":")
		pt, _, _ := strings.Cut(rest, " ")
		if (name == "a=rtpmap" || name == "a=fmtp") && slices.Contains(types, pt) {
			b.WriteString(a + "\r\n")
		}
		switch a { // a hold is answered in kind (RFC 3264 §6.1)
		case "a=sendonly":
			direction = "a=recvonly"
		case "a=recvonly":
			direction = "a=sendonly"
		case "a=inactive":
			direction = a
		}
	}
	b.WriteString(direction + "\r\n")
}
