// Package flow makes and reads the authenticated tokens with which sipward
// recognises its own work when a message comes back.
//
// A proxy that keeps no state to forward (RFC 3261 §16.11) must find in each
// message where it goes on. sipward writes that into the places which a peer has
// to echo: a parameter of its Via (responses), the user part of its Record-Route
// and Path URIs (requests inside a dialog), and the user part of an aliased
// Contact (requests to a phone). Each is a [Token]: the transport address of one
// side, the listener, the connection, and the PBX, with a SipHash-2-4 of all of it
// under a key that never leaves the host. What does not verify is not ours.
//
// The tokens are authenticated, not encrypted: a PBX can read a phone's address
// in them, which is what a Via tells it anyway.
package flow
