package certs

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"strings"
)

// alerts says what a peer means when it ends a handshake (RFC 8446 §6.2), by the words of
// crypto/tls, which has no names for them.
var alerts = []struct{ alert, means string }{
	{"unknown certificate authority", "it does not know the authority of sipward's certificate: put those that vouch for it into the same file, or make the authority known to it"},
	{"expired certificate", "it holds sipward's certificate for out of date: renew it, and see that the other side's clock is right"},
	{"bad certificate", "it refuses sipward's certificate: often it is for another name than the one that is called"},
	{"unsupported certificate", "it cannot use sipward's certificate: often the kind of its key"},
	{"unknown certificate", "it refuses sipward's certificate: often it is for another name than the one that is called"},
	{"certificate required", "it wants a certificate from sipward"},
	{"protocol version not supported", "it speaks another version of TLS"},
	{"handshake failure", "it has no cipher in common with sipward"},
	{"insufficient security level", "it wants stronger ciphers than sipward has"},
}

// Explain says for people why a handshake failed, in words that follow a colon. blame
// says that it was for what the peer sent, so that it speaks against it: not if it went
// away, took too long, did not like our certificate, or if we have none.
func Explain(err error) (text string, blame bool) {
	var header tls.RecordHeaderError
	var trust *x509Error
	var op *net.OpError
	switch {
	case errors.Is(err, ErrNoCertificate):
		return "sipward has no certificate yet", false
	case errors.As(err, &trust):
		return trust.Error(), false
	case errors.As(err, &header):
		return "what came is no TLS", true
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "it took too long", false
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed):
		return "the other side went away", false
	case errors.As(err, &op) && op.Op == "remote error":
		for _, a := range alerts {
			if strings.Contains(op.Error(), a.alert) {
				return "the other side ended it: " + a.means, false
			}
		}
		return "the other side ended it: " + strings.TrimPrefix(op.Err.Error(), "tls: "), false
	}
	text = strings.TrimPrefix(err.Error(), "tls: ")
	switch {
	case strings.Contains(text, "unsupported versions"):
		return "the other side speaks only older versions of TLS than tls.min_version allows", false
	case strings.Contains(text, "no cipher suite supported"), strings.Contains(text, "no mutually supported"), strings.Contains(text, "no supported"):
		return "the other side speaks only ciphers that sipward does not: " + text, false
	case strings.Contains(text, "didn't provide a certificate"):
		return "the other side shows no certificate, and tls.client_auth requires one", false
	}
	return text, true
}
