package certs

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"sipward/proxy/netio"
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
// says that it was for what the peer sent or left out, so that it speaks against it: not if
// it went away, did not like our certificate, or if we have none.
func Explain(err error) (text string, blame bool) {
	var trust *x509Error
	var header tls.RecordHeaderError
	switch {
	case errors.Is(err, ErrNoCertificate):
		return "sipward has no certificate yet", false
	case errors.As(err, &trust):
		return trust.Error(), false
	case errors.Is(err, netio.ErrPlainSIP):
		return "what came is SIP without TLS: set the phone to TLS, or to the port for TCP", true
	case errors.Is(err, netio.ErrNotTLS), errors.As(err, &header):
		return "what came is no TLS", true
	case errors.Is(err, netio.ErrHandshakeTimeout), errors.Is(err, os.ErrDeadlineExceeded):
		return "it took too long", true
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed), errors.Is(err, unix.ECONNRESET):
		return "the other side went away", false
	}
	var op *net.OpError
	if errors.Is(err, netio.ErrRejected) || errors.As(err, &op) && op.Op == "remote error" {
		return "the other side ended it: " + meaning(err.Error()), false
	}
	text = strings.TrimPrefix(err.Error(), "tls: ")
	if strings.HasSuffix(text, "bad record MAC") {
		// OpenSSL sends the alert by which it refuses a certificate in the clear, also where
		// TLS 1.3 would have it encrypted (RFC 8446 §6).
		return "most likely it refuses sipward's certificate, and says so in the clear, which cannot be read under TLS 1.3: see what it says itself", false
	}
	for part, means := range unequal {
		if strings.Contains(text, part) {
			return means, false
		}
	}
	return text, true
}

// meaning explains the alert that stands in a text.
func meaning(text string) string {
	for _, a := range alerts {
		if strings.Contains(text, "tls: "+a.alert) {
			return a.means
		}
	}
	if i := strings.LastIndex(text, "tls: "); i >= 0 {
		return text[i+len("tls: "):]
	}
	return text
}

// unequal are the words of crypto/tls when the two sides have nothing in common.
var unequal = map[string]string{
	"unsupported versions":         "the other side speaks only older versions of TLS than tls.min_version allows",
	"no cipher suite supported":    "the other side speaks only ciphers that sipward does not",
	"no key exchanges":             "the other side speaks only ciphers that sipward does not",
	"didn't provide a certificate": "the other side shows no certificate, and tls.client_auth requires one",
	"peer doesn't support any of":  "the other side cannot use the kind of key of sipward's certificate",
}
