//go:build !linux

package kernel

import "fmt"

func openIPSet(*Config) (backend, error) {
	return nil, fmt.Errorf("%w: ipset is part of Linux", ErrUnsupported)
}

func openNFTables(*Config) (backend, error) {
	return nil, fmt.Errorf("%w: nftables is part of Linux", ErrUnsupported)
}
