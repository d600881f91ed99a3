package kernel

import (
	"errors"
	"fmt"
)

// candidates returns the backends to be tried, in that order.
func (m *Mirror) candidates() []opener {
	switch m.cfg.Backend {
	case BackendIPSet:
		return []opener{openIPSet}
	case BackendNFTables:
		return []opener{openNFTables}
	case BackendNone:
		return nil
	}
	return []opener{openIPSet, openNFTables}
}

// clean takes away what has the mirror's name in the backends but keep: the
// bans that another configuration has left there would never be lifted.
func (m *Mirror) clean(keep Backend) {
	if err := remove(&m.cfg, keep); err != nil && !errors.Is(err, ErrPermission) {
		m.log.Warn("cannot tidy up the kernel's sets", "error", err)
	}
}

// Remove takes away all that a mirror of this configuration has made in the
// kernel, for when none runs.
func Remove(cfg Config) error {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return err
	}
	return remove(&cfg, "")
}

func remove(cfg *Config, keep Backend) error {
	var errs []error
	for name, open := range map[Backend]opener{BackendIPSet: openIPSet, BackendNFTables: openNFTables} {
		if name == keep {
			continue
		}
		b, err := open(cfg)
		if err == nil {
			err = b.remove()
			b.close()
		}
		switch {
		case errors.Is(err, ErrPermission):
			return err // as it is with the others
		case !errors.Is(err, ErrUnsupported):
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// oneLine says why each backend failed; that there is no permission is said once.
func oneLine(errs []error) error {
	last := errs[len(errs)-1]
	if errors.Is(last, ErrPermission) {
		return last
	}
	for _, err := range errs[:len(errs)-1] {
		last = fmt.Errorf("%w; %w", err, last)
	}
	return last
}
