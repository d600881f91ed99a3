package sip

// Method is a request method that sipward knows, or MethodOther. Methods are
// case-sensitive (RFC 3261 §7.1).
type Method uint8

// The methods. MethodOther is any method not in this list.
const (
	MethodOther Method = iota
	MethodInvite
	MethodAck
	MethodBye
	MethodCancel
	MethodRegister
	MethodOptions
	MethodPrack
	MethodSubscribe
	MethodNotify
	MethodPublish
	MethodInfo
	MethodRefer
	MethodMessage
	MethodUpdate
	methodCount
)

// MethodCount is the number of Method values: the length of an array that is
// indexed by Method.
const MethodCount = int(methodCount)

var methodNames = [methodCount]string{
	"OTHER", "INVITE", "ACK", "BYE", "CANCEL", "REGISTER", "OPTIONS", "PRACK",
	"SUBSCRIBE", "NOTIFY", "PUBLISH", "INFO", "REFER", "MESSAGE", "UPDATE",
}

// String returns the method as written on the wire, or "OTHER".
func (m Method) String() string {
	if m >= methodCount {
		return methodNames[MethodOther]
	}
	return methodNames[m]
}

// LookupMethod returns the Method with that name, or MethodOther.
func LookupMethod(name []byte) Method {
	switch string(name) {
	case "INVITE":
		return MethodInvite
	case "ACK":
		return MethodAck
	case "BYE":
		return MethodBye
	case "CANCEL":
		return MethodCancel
	case "REGISTER":
		return MethodRegister
	case "OPTIONS":
		return MethodOptions
	case "PRACK":
		return MethodPrack
	case "SUBSCRIBE":
		return MethodSubscribe
	case "NOTIFY":
		return MethodNotify
	case "PUBLISH":
		return MethodPublish
	case "INFO":
		return MethodInfo
	case "REFER":
		return MethodRefer
	case "MESSAGE":
		return MethodMessage
	case "UPDATE":
		return MethodUpdate
	}
	return MethodOther
}
