//go:build linux

package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"runtime/debug"
	"time"

	"sipward/e2e/bench/bare"
	"sipward/e2e/bench/load"
	"sipward/e2e/bench/mmsg"
	"sipward/e2e/bench/respond"
)

// harnessBuffer is the receive buffer of generator and responder: large enough that what is lost,
// is lost by the edge.
const harnessBuffer = 64 << 20

// playRole runs the part that this process was started for. Every part is a process of its own, so
// that the CPU time of the edge is the edge's alone.
func playRole(role string, args []string) error {
	// None of the parts makes garbage; a collection would only disturb the clock.
	debug.SetGCPercent(-1)
	// Two threads at most hold a processor each (mmsg.Options.HoldProcessor); the rest is for the others.
	runtime.GOMAXPROCS(4)
	switch role {
	case "generate":
		return roleGenerate(args)
	case "respond":
		return roleRespond(args)
	default:
		return roleBare(args)
	}
}

func roleGenerate(args []string) error {
	var cfg load.Config
	fs := flag.NewFlagSet("generate", flag.ExitOnError)
	fs.TextVar(&cfg.Target, "target", netip.AddrPort{}, "the edge's `address:port`")
	port := fs.Uint("port", 0, "the sources' port")
	fs.IntVar(&cfg.Sources, "sources", 1, "number of source addresses")
	fs.IntVar(&cfg.Rate, "rate", 1000, "transactions or calls per second")
	fs.DurationVar(&cfg.Duration, "duration", time.Second, "how long")
	flow := fs.String("flow", string(load.Register), "register, credentials, challenge or call")
	routed := fs.Bool("routed", false, "send from 198.51.100.0/24 instead of the loopback network")
	run := fs.Uint("run", 1, "number that marks this run's messages")
	if err := fs.Parse(args); err != nil {
		return fmt.Errorf("parse flags: %w", err)
	}
	cfg.Port, cfg.Flow = uint16(*port), load.Flow(*flow)
	if *routed {
		cfg.Network = [2]byte{198, 51}
	}
	g, err := load.New(cfg, uint32(*run), mmsg.Options{ReceiveBuffer: harnessBuffer, HoldProcessor: true})
	if err != nil {
		return err
	}
	r, err := g.Run(context.Background())
	if err != nil {
		return err
	}
	if err := json.NewEncoder(os.Stdout).Encode(r); err != nil {
		return fmt.Errorf("write result: %w", err)
	}
	return nil
}

func roleRespond(args []string) error {
	var listen netip.AddrPort
	fs := flag.NewFlagSet("respond", flag.ExitOnError)
	fs.TextVar(&listen, "listen", netip.AddrPort{}, "`address:port`")
	if err := fs.Parse(args); err != nil {
		return fmt.Errorf("parse flags: %w", err)
	}
	r, err := respond.Listen(listen, mmsg.Options{ReceiveBuffer: harnessBuffer, HoldProcessor: true})
	if err != nil {
		return err
	}
	defer r.Close()
	return r.Run()
}

func roleBare(args []string) error {
	var listen, upstream netip.AddrPort
	fs := flag.NewFlagSet("bare", flag.ExitOnError)
	fs.TextVar(&listen, "listen", netip.AddrPort{}, "`address:port`")
	fs.TextVar(&upstream, "upstream", netip.AddrPort{}, "the PBX's `address:port`")
	buffer := fs.Int("receive-buffer", 0, "bytes")
	if err := fs.Parse(args); err != nil {
		return fmt.Errorf("parse flags: %w", err)
	}
	f, err := bare.Listen(listen, upstream, mmsg.Options{ReceiveBuffer: *buffer, HoldProcessor: true})
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Run()
}
