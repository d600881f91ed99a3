package policy

// Reason says why a message met its fate. It is one closed set for the whole
// of sipward: logs, metrics, events, history and reports use these words and
// no others. The words are an interface and do not change.
type Reason uint8

// The reasons. ReasonNone is the zero value: nothing has been decided.
const (
	ReasonNone Reason = iota

	// The message goes on.
	ReasonPass
	ReasonAllowList
	ReasonPBX
	ReasonTrunk

	// The source.
	ReasonDenyList
	ReasonBan
	ReasonFlood
	ReasonConnectionCap

	// What the guards say.
	ReasonRegister
	ReasonScanner
	ReasonHoney
	ReasonEnumeration
	ReasonQuarantine
	ReasonKnownPlaces
	ReasonUnprovenNonce
	ReasonGuessesInFlight
	ReasonInviteLimit
	ReasonDigestLeak
	ReasonUniform
	ReasonOverload

	// TFTP.
	ReasonTFTPLimit
	ReasonTFTPPath
	ReasonTFTPWrite
	ReasonTFTPBusy

	// What arrived is not a message that can be forwarded.
	ReasonKeepalive
	ReasonNotSIP
	ReasonMalformed
	ReasonBadHandshake
	ReasonSlowMessage
	ReasonIdle

	// RFC 3261 §16.3, the checks of a proxy.
	ReasonTooManyHops
	ReasonLoop
	ReasonBadExtension
	ReasonBadScheme

	// Where to.
	ReasonNoUpstream
	ReasonUnknownDestination
	ReasonNoRoute
	ReasonUpstreamError

	// Responses and tokens.
	ReasonForeignVia
	ReasonStaleToken
	ReasonForgedToken
	ReasonUnmatchedResponse
	ReasonRepeat
	ReasonOwnAck
	ReasonNotPBX
	ReasonToUs
	ReasonForgedSource

	// DNS: questions of clients, and what upstreams reply.
	ReasonDNSAsked
	ReasonDNSStranger
	ReasonDNSLimit
	ReasonDNSMalformed
	ReasonDNSBusy
	ReasonDNSFailed
	ReasonDNSForged
	ReasonDNSBadAnswer
	ReasonDNSTooLarge
	ReasonDNSTrimmed
	ReasonDNSPrivate

	// sipward itself.
	ReasonQueueFull
	ReasonRetransmitFull
	ReasonTooLarge
	ReasonSendError
	ReasonShutdown

	numReasons
)

// NumReasons is the number of reasons; a Reason is an index below it.
const NumReasons = int(numReasons)

// reasons holds the stable word of each reason and one line for people.
var reasons = [NumReasons]struct{ name, explain string }{
	ReasonNone: {"none", "Nothing has been decided about this message."},

	ReasonPass:      {"pass", "The message broke no rule and was forwarded."},
	ReasonAllowList: {"allow-list", "The source is on the allow list, so no limit or ban applies to it."},
	ReasonPBX:       {"pbx", "The message came from one of your own PBXes."},
	ReasonTrunk:     {"trunk", "The source is one of your configured trunks, which are always in good standing."},

	ReasonDenyList:      {"deny-list", "The source is on the deny list; whatever it sends is dropped without an answer."},
	ReasonBan:           {"ban", "The source is banned at present; whatever it sends is dropped without an answer."},
	ReasonFlood:         {"flood", "The source sent more messages per second than the flood limit allows."},
	ReasonConnectionCap: {"connection-cap", "The source, or all sources together, had too many connections open, so a new one was refused."},

	ReasonRegister:        {"register", "Too many requests with wrong passwords, or for accounts that are refused, came from the source within the monitoring period."},
	ReasonScanner:         {"scanner", "The message carries the marks of an attack tool; such messages are dropped without an answer."},
	ReasonHoney:           {"honey", "The message touched a honey account or number, which nobody has an honest reason to know."},
	ReasonEnumeration:     {"enumeration", "The source tried many different accounts without success within a short time."},
	ReasonQuarantine:      {"quarantine", "This account failed too often from this source, so the two together are shut out for a while; the other phones behind the same address go on."},
	ReasonKnownPlaces:     {"known-places", "The account is under attack from many sources, so for now only the places it has registered from before are let through."},
	ReasonUnprovenNonce:   {"unproven-nonce", "The credentials answer a challenge that was never sent to this source, and too many such messages came in its name."},
	ReasonGuessesInFlight: {"guesses-in-flight", "So many requests with credentials still wait for their answers that one more could exceed the limit of failures; the phone repeats the request."},
	ReasonInviteLimit:     {"invite-limit", "The source has more calls being set up at the same time than the invite limit allows."},
	ReasonUniform:         {"uniform", "The answer would have told a stranger whether the account exists; he got the challenge that everybody gets."},
	ReasonDigestLeak:      {"digest-leak", "A phone answered the PBX with a challenge for its password, which only a registrar does; the answer was dropped so that the PBX gives nothing away."},
	ReasonOverload:        {"overload", "Strangers together sent more than their share while sipward was busy; sources in good standing went first."},

	ReasonTFTPLimit: {"tftp-limit", "The source asked for more files within the period than tftp.threshold allows, so it is limited until it has been calm for a whole period."},
	ReasonTFTPPath:  {"tftp-path", "The name of the file leads out of the served folder, or could on some server; such a request is refused."},
	ReasonTFTPWrite: {"tftp-write", "The request is to write a file, which tftp.allow_write does not allow."},
	ReasonTFTPBusy:  {"tftp-busy", "There were as many transfers as tftp.max_transfers, tftp.max_per_source or tftp.strangers allow."},

	ReasonKeepalive:    {"keepalive", "A keep-alive, not a SIP message; it was answered where that is due, and not forwarded."},
	ReasonNotSIP:       {"not-sip", "What arrived does not begin like a SIP message."},
	ReasonMalformed:    {"malformed", "The message breaks the SIP grammar in a way that two programs could read differently."},
	ReasonBadHandshake: {"bad-handshake", "A connection was not encrypted as its port demands, or not made a WebSocket one: the other side spoke something else, took too long, or went away."},
	ReasonSlowMessage:  {"slow-message", "A connection did not deliver a whole message within the time allowed and was closed."},
	ReasonIdle:         {"idle", "A connection was silent for longer than the idle time and was closed."},

	ReasonTooManyHops:  {"too-many-hops", "Max-Forwards had reached zero (RFC 3261 section 16.3)."},
	ReasonLoop:         {"loop", "The message had been here before in the same form (RFC 3261 section 16.3)."},
	ReasonBadExtension: {"bad-extension", "The request demands of a proxy an extension that sipward does not have (Proxy-Require)."},
	ReasonBadScheme:    {"bad-scheme", "The Request-URI has a scheme that sipward cannot forward."},

	ReasonNoUpstream:         {"no-upstream", "No PBX is up, so there was nowhere to send the request."},
	ReasonUnknownDestination: {"unknown-destination", "The destination's name could not be resolved."},
	ReasonNoRoute:            {"no-route", "The message names a destination that its sender may not send to through sipward."},
	ReasonUpstreamError:      {"upstream-error", "The PBX or the trunk could not be reached over the network."},

	ReasonForeignVia:        {"foreign-via", "A response whose top Via is not sipward's own."},
	ReasonStaleToken:        {"stale-token", "A token that sipward made, but whose flow no longer exists."},
	ReasonForgedToken:       {"forged-token", "A token that does not verify: sipward did not make it, it was altered, or the key has been replaced since."},
	ReasonUnmatchedResponse: {"unmatched-response", "A response that did not come from where its request was sent."},

	ReasonRepeat: {"repeat", "A message that was repeated over UDP and has gone on over a connection, which loses nothing, before; if there was an answer, it was sent again."},
	ReasonOwnAck: {"own-ack", "The ACK to an answer that sipward itself gave; it ends here, the PBX knows nothing of the call."},
	ReasonNotPBX: {"not-pbx", "A stranger spoke to a listener that serves the PBXes only."},
	ReasonToUs:   {"to-us", "A PBX asked sipward itself whether it lives, and was answered."},

	ReasonForgedSource: {"forged-source", "The packet came from outside with the address of one of your PBXes."},

	ReasonDNSAsked:     {"dns-asked", "A question to the DNS front from a source that may ask."},
	ReasonDNSStranger:  {"dns-stranger", "A question to the DNS front from a source that is not in dns.allow_from; it is never answered."},
	ReasonDNSLimit:     {"dns-limit", "The source asked the DNS front more questions per second than dns.rate allows."},
	ReasonDNSMalformed: {"dns-malformed", "What arrived at the DNS front is no question that a resolver answers."},
	ReasonDNSBusy:      {"dns-busy", "So many questions wait for the upstreams of the DNS front that one more was refused."},
	ReasonDNSFailed:    {"dns-failed", "No upstream of the DNS front gave an answer that could be used, so the client was told that the server failed."},
	ReasonDNSForged:    {"dns-forged", "A reply came in an upstream's name that answers no question of ours: forged, or too late; it was ignored."},
	ReasonDNSBadAnswer: {"dns-bad-answer", "An upstream's answer has bytes behind its end or names that no host has; it was refused."},
	ReasonDNSTooLarge:  {"dns-too-large", "An answer is too large for the client, or its chain of aliases too long; the client was told that the server failed."},
	ReasonDNSTrimmed:   {"dns-trimmed", "An answer has more addresses than fit into the buffer of a vulnerable C library (CVE-2015-7547); over TCP some are left out."},
	ReasonDNSPrivate:   {"dns-private", "An upstream gave private addresses for a name that is not in dns.private_names; they were left out of the answer."},

	ReasonQueueFull:      {"queue-full", "A queue of sipward was full and the message was dropped so as not to delay the others."},
	ReasonRetransmitFull: {"retransmit-full", "The request came over a connection and would have gone on over UDP, and so many wait there for their answers that there was no room, or the source has had its share."},
	ReasonTooLarge:       {"too-large", "The message would be larger than its transport can carry."},
	ReasonSendError:      {"send-error", "The operating system refused to send the message."},
	ReasonShutdown:       {"shutdown", "sipward was shutting down."},
}

// ReasonWords returns the words of all reasons.
func ReasonWords() []string {
	all := make([]string, NumReasons)
	for r := range all {
		all[r] = reasons[r].name
	}
	return all
}

// String returns the stable word of the reason.
func (r Reason) String() string {
	if int(r) < len(reasons) {
		return reasons[r].name
	}
	return "unknown"
}

// Guard returns the name of the guard, as in the configuration, whose doing a message
// with that reason is; empty: none's.
func (r Reason) Guard() string {
	switch r {
	case ReasonRegister, ReasonQuarantine, ReasonGuessesInFlight, ReasonUnprovenNonce:
		return "register"
	case ReasonKnownPlaces:
		return "distinct_sources"
	case ReasonInviteLimit:
		return "invite"
	case ReasonTFTPLimit, ReasonTFTPPath, ReasonTFTPWrite, ReasonTFTPBusy:
		return "tftp"
	case ReasonDNSStranger, ReasonDNSLimit, ReasonDNSMalformed:
		return "dns"
	case ReasonBadHandshake:
		return "malformed"
	case ReasonEnumeration, ReasonScanner, ReasonHoney, ReasonMalformed, ReasonFlood:
		return r.String()
	}
	return ""
}

// Explain returns one sentence for people who ask what the word means.
func (r Reason) Explain() string {
	if int(r) < len(reasons) {
		return reasons[r].explain
	}
	return "A reason that this version of sipward does not know."
}
