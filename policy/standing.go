package policy

import (
	"net/netip"

	"sipward/policy/gate"
)

// Standing is how a source is regarded. All but strangers are in good standing.
type Standing uint8

// The standings, from the worst to the best.
const (
	Stranger Standing = iota
	Good              // holds a binding or a dialog that a PBX accepted
	Trunk             // on the list of trunks
	Allowed           // on the allow list, or a PBX: never judged
)

var standingNames = [...]string{"stranger", "good", "trunk", "allowed"}

// String returns the standing's stable word.
func (s Standing) String() string {
	if int(s) < len(standingNames) {
		return standingNames[s]
	}
	return "unknown"
}

// Standing returns how a source is regarded at now. It does not allocate.
func (e *Engine) Standing(addr netip.Addr, now int64) Standing {
	switch e.gate.Standing(addr, now) {
	case gate.PassAllowed, gate.PassPBX:
		return Allowed
	case gate.PassTrusted:
		return Trunk
	}
	return Stranger
}
