// Package sip is the wire side of sipward: a strict scanner for SIP messages,
// framing on streams, in-place edits and digest credentials.
//
// Everything that is parsed is a [Span], a pair of offsets into the caller's
// buffer. Nothing is copied, nothing is allocated, and what is not edited
// leaves byte for byte as it came.
//
// The scanner is a firewall's: it refuses what two parsers could read in two
// ways (a repeated Content-Length, a bare line feed, two tags), since a message
// that sipward and the PBX understand differently is a way around sipward. What
// RFC 3261 allows, however odd, passes (RFC 4475 §3.1.1). Deviations of real
// phones that pass although the RFC does not allow them are listed, each with
// its test, in deviations_test.go.
package sip
