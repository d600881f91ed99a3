package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"syscall"
)

// withAdvice adds to an error what a person can do about it, where the system alone has said
// what is wrong: with files, sockets or rules that sipward makes. It leaves nil as it is.
func withAdvice(err error) error {
	file := errors.As(err, new(*fs.PathError))
	if op := new(net.OpError); errors.As(err, &op) && op.Net == "unix" {
		file = true
	}
	advice := ""
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		advice = "another program has this port, and 'ss -lntup' names it; stop it, or have one of the two listen elsewhere"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		advice = "no interface of this machine has this address; 'ip address' shows those that there are"
	case errors.Is(err, fs.ErrPermission) && file:
		advice = "run sipward as a user who may write there, or write other places under state_dir and control.socket"
	case errors.Is(err, syscall.EACCES):
		advice = "a port below 1024 needs CAP_NET_BIND_SERVICE, which dist/sipward.service grants"
	case errors.Is(err, syscall.EPERM):
		advice = "this needs root, or CAP_NET_ADMIN and CAP_NET_RAW, which dist/sipward.service grants"
	default:
		return err
	}
	return fmt.Errorf("%w; %s", err, advice)
}
