//go:build linux

package load

import (
	"bytes"
	"fmt"
	"net/netip"
)

// Tokens of a template and what replaces them, all of fixed width: patching a message in place
// costs a few stores.
const (
	markSeq    = "SSSSSSSS"        // sequence number, hexadecimal
	markRun    = "RRRRRRRR"        // run, hexadecimal
	markSource = "NETWORK.AAA.BBB" // source address
	markUser   = "UUUU"            // one of 65,536 accounts
	callIDTail = "@bench.invalid"  // RFC 2606
	secretTail = "@login.invalid"  // a REGISTER that the responder is to challenge
	branchHead = "z9hG4bK"         // RFC 3261 §8.1.1.7
	agent      = "Bench phone 1.0" // nothing that a scanner guard knows
)

// first is the message that opens a transaction: a template and the places in it that vary.
type first struct {
	text    []byte
	seqs    []int
	sources []int
	users   []int
}

// newFirst builds the template of a flow. A REGISTER is some 700 bytes long, 900 with credentials, an
// INVITE 900: what phones send.
func newFirst(cfg *Config, run uint32) *first {
	var text string
	switch cfg.Flow {
	case Call:
		text = invite(cfg)
	case Credentials:
		text = register(cfg.Target, "1", callIDTail, credentials(cfg.Target))
	case Challenge:
		text = register(cfg.Target, "1", secretTail, "")
	default:
		text = register(cfg.Target, "1", callIDTail, "")
	}
	text = finish(text, cfg, run)
	return &first{
		text:    []byte(text),
		seqs:    places(text, markSeq),
		sources: places(text, "AAA.BBB"),
		users:   places(text, markUser),
	}
}

func finish(text string, cfg *Config, run uint32) string {
	b := bytes.ReplaceAll([]byte(text), []byte(markRun), fmt.Appendf(nil, "%08x", run))
	return string(bytes.ReplaceAll(inNetwork(b, cfg), []byte("PPPPP"), fmt.Appendf(nil, "%d", cfg.Port)))
}

// inNetwork puts the sources' network in its place.
func inNetwork(b []byte, cfg *Config) []byte {
	return bytes.ReplaceAll(b, []byte("NETWORK"), fmt.Appendf(nil, "%d.%d", cfg.Network[0], cfg.Network[1]))
}

func (f *first) size() int { return len(f.text) }

// fill writes the template into a slot.
func (f *first) fill(slot []byte) { copy(slot, f.text) }

// phone is who opens a transaction: an account, and the low 16 bits of the address that it is always at.
type phone struct {
	source uint32
	user   uint16
}

// phone returns who opens the transaction seq. From one address come 65,536 accounts, as from a
// large office; of many addresses each is one phone's. Accounts do not wander from address to
// address: that is not what phones do, and an edge that remembers where an account lives would be
// measured writing that down.
func (g *Generator) phone(seq uint32) phone {
	if n := uint32(len(g.sources)); n > 1 {
		return phone{g.sources[seq%n], uint16(seq % n)}
	}
	return phone{g.sources[0], uint16(seq)}
}

// patch makes the slot's template the message of one transaction.
func (f *first) patch(slot []byte, seq uint32, of phone) {
	for _, p := range f.seqs {
		putHex(slot[p:p+8], seq)
	}
	for _, p := range f.sources {
		putDecimal3(slot[p:p+3], byte(of.source>>8))
		putDecimal3(slot[p+4:p+7], byte(of.source))
	}
	for _, p := range f.users {
		putHex(slot[p:p+4], uint32(of.user))
	}
}

func register(target netip.AddrPort, cseq, callIDTail, authorization string) string {
	return "REGISTER sip:" + target.String() + " SIP/2.0\r\n" +
		"Via: SIP/2.0/UDP " + markSource + ":PPPPP;branch=" + branchHead + markRun + "r" + cseq + markSeq + ";rport\r\n" +
		"Max-Forwards: 70\r\n" +
		"From: <sip:" + markUser + "@" + target.String() + ">;tag=" + markSeq + "\r\n" +
		"To: <sip:" + markUser + "@" + target.String() + ">\r\n" +
		"Call-ID: " + markRun + markSeq + callIDTail + "\r\n" +
		"CSeq: " + cseq + " REGISTER\r\n" +
		"Contact: <sip:" + markUser + "@" + markSource + ":PPPPP;line=" + markSeq + ">;reg-id=1;+sip.instance=\"<urn:uuid:0f3c2a71-7d1e-4c5a-9a6b-0000" + markSeq + ">\"\r\n" +
		authorization +
		"Allow: INVITE, ACK, OPTIONS, CANCEL, BYE, SUBSCRIBE, NOTIFY, INFO, REFER, UPDATE\r\n" +
		"Allow-Events: dialog, message-summary, presence, talk, hold\r\n" +
		"Accept: application/sdp, application/dtmf-relay, message/sipfrag\r\n" +
		"Supported: replaces, timer, path, outbound\r\n" +
		"User-Agent: " + agent + "\r\n" +
		"Expires: 300\r\n" +
		"Content-Length: 0\r\n\r\n"
}

func credentials(target netip.AddrPort) string {
	return `Authorization: Digest username="` + markUser + `", realm="bench", nonce="67a1b2c3d4e5f60718293a4b5c6d7e8f", uri="sip:` +
		target.String() + `", response="0123456789abcdef01234567` + markSeq + `", algorithm=MD5, cnonce="` + markSeq +
		`", qop=auth, nc=00000001` + "\r\n"
}

func invite(cfg *Config) string {
	target := cfg.Target
	sdp := "v=0\r\no=- 2890844526 2890844526 IN IP4 " + markSource + "\r\ns=-\r\nc=IN IP4 " + markSource + "\r\nt=0 0\r\n" +
		"m=audio 49170 RTP/AVP 0 8 18 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:18 G729/8000\r\n" +
		"a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=sendrecv\r\n"
	sdp = string(inNetwork([]byte(sdp), cfg)) // its length is in the header
	return "INVITE sip:echo@" + target.String() + " SIP/2.0\r\n" +
		"Via: SIP/2.0/UDP " + markSource + ":PPPPP;branch=" + branchHead + markRun + "i1" + markSeq + ";rport\r\n" +
		"Max-Forwards: 70\r\n" +
		"From: <sip:" + markUser + "@" + target.String() + ">;tag=" + markSeq + "\r\n" +
		"To: <sip:echo@" + target.String() + ">\r\n" +
		"Call-ID: " + markRun + markSeq + callIDTail + "\r\n" +
		"CSeq: 1 INVITE\r\n" +
		"Contact: <sip:" + markUser + "@" + markSource + ":PPPPP>\r\n" +
		"Allow: INVITE, ACK, OPTIONS, CANCEL, BYE, SUBSCRIBE, NOTIFY, INFO, REFER, UPDATE\r\n" +
		"Supported: replaces, timer\r\n" +
		"User-Agent: " + agent + "\r\n" +
		"Content-Type: application/sdp\r\n" +
		fmt.Sprintf("Content-Length: %d\r\n\r\n", len(sdp)) + sdp
}

func places(text, mark string) []int {
	var at []int
	for from := 0; ; {
		i := bytes.Index([]byte(text[from:]), []byte(mark))
		if i < 0 {
			return at
		}
		at = append(at, from+i)
		from += i + len(mark)
	}
}

func putHex(dst []byte, v uint32) {
	const digits = "0123456789abcdef"
	for i := len(dst) - 1; i >= 0; i-- {
		dst[i] = digits[v&15]
		v >>= 4
	}
}

func putDecimal3(dst []byte, v byte) {
	dst[0], dst[1], dst[2] = '0'+v/100, '0'+v/10%10, '0'+v%10
}
