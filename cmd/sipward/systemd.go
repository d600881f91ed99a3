package main

import (
	"context"
	"fmt"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"
)

// What systemd is told (sd_notify(3)). Outside of systemd nothing is sent.
const (
	stateReady    = daemon.SdNotifyReady
	stateStopping = daemon.SdNotifyStopping
	// stateReloading needs the time of the reload beside it (Type=notify-reload).
	stateReloading = daemon.SdNotifyReloading
)

func (e *edge) notify(state string) {
	if state == stateReloading {
		var now unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err == nil {
			state = fmt.Sprintf("%s\nMONOTONIC_USEC=%d", state, now.Nano()/1000)
		}
	}
	if _, err := daemon.SdNotify(false, state); err != nil {
		e.log.Warn("cannot tell systemd", "state", state, "err", err)
	}
}

// feedWatchdog tells systemd's watchdog that sipward lives: that no lock is stuck
// which commands and bans need.
func feedWatchdog(ctx context.Context, e *edge) error {
	every, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		return fmt.Errorf("read systemd's watchdog setting: %w", err)
	}
	if every == 0 {
		return nil
	}
	tick := time.NewTicker(every / 3)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			e.current()
			e.state.bans.Stats()
			e.notify(daemon.SdNotifyWatchdog)
		}
	}
}
