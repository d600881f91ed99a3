//go:build linux

// Command bench puts Kamailio, a bare UDP forwarder and sipward in front of the same responder,
// loads each with the same generator, and tells the highest rate without loss and the CPU time per
// message of each. It exits with 1 when sipward misses one of its bars.
//
//	go run ./e2e/bench                 about ten minutes; the machine should be idle otherwise
//	go run ./e2e/bench -quick          a tenth of that, to see whether it works
//	go run ./e2e/bench -subjects bare,sipward -json bench.json
//	go run ./e2e/bench -routed         transparent mode beside proxy mode and a router; as root
//
// A transaction is REGISTER and its 200 (from many sources: with the challenge in between): two (four) messages cross
// the edge. A call is INVITE, 180, 200, ACK, BYE, 200: six. CPU time is utime+stime of the edge's
// whole process tree, divided by the messages of complete transactions. All traffic stays on the
// loopback interface.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	// Parts die with the thread that started them (PR_SET_PDEATHSIG), so that thread must stay.
	runtime.LockOSThread()
	if len(os.Args) > 1 && slices.Contains([]string{"generate", "respond", "bare"}, os.Args[1]) {
		if err := playRole(os.Args[1], os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(2)
		}
		return
	}
	failed, err := run()
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(2)
	case failed:
		os.Exit(1)
	}
}

type options struct {
	step       time.Duration
	patience   time.Duration
	sources    int
	subjects   []string
	json       string
	kamailio   string
	sipward    string
	buffer     int
	resolution float64
	routed     bool
}

func parseFlags() options {
	var o options
	var only string
	quick := flag.Bool("quick", false, "short steps and a coarse search: shows that everything works, not how fast it is")
	flag.DurationVar(&o.step, "step", 4*time.Second, "duration of one step")
	flag.DurationVar(&o.patience, "patience", 2*time.Minute, "time in all to wait for others to leave the machine alone, and to repeat what they spoiled")
	flag.IntVar(&o.sources, "sources", 10000, "source addresses of the flow from many")
	flag.StringVar(&only, "subjects", "", "comma-separated part of: kamailio, bare, sipward (default all)")
	flag.StringVar(&o.json, "json", "", "also write all figures to this file")
	flag.StringVar(&o.kamailio, "kamailio", "kamailio", "Kamailio's `program`")
	flag.StringVar(&o.sipward, "sipward", "", "sipward's `program` (default: build it)")
	flag.IntVar(&o.buffer, "receive-buffer", 4<<20, "receive buffer of Kamailio and the bare forwarder, bytes (sipward uses its default)")
	flag.BoolVar(&o.routed, "routed", false, "measure transparent mode beside proxy mode and plain forwarding, in network namespaces (as root)")
	flag.Parse()
	o.resolution = 1.05
	if *quick { // long enough for every part, too short for the truth
		o.step, o.resolution, o.patience = 500*time.Millisecond, 1.3, 0
	}
	if only != "" {
		o.subjects = strings.Split(only, ",")
	}
	return o
}

// wants says whether a subject was asked for.
func (o options) wants(name string) bool {
	return len(o.subjects) == 0 || slices.ContainsFunc(o.subjects, func(s string) bool { return strings.HasPrefix(name, s) })
}

func run() (failed bool, err error) {
	o := parseFlags()
	dir, err := os.MkdirTemp("", "sipward-bench-")
	if err != nil {
		return false, fmt.Errorf("make a folder: %w", err)
	}
	defer os.RemoveAll(dir)
	l, err := newLab(o, dir)
	if err != nil {
		return false, err
	}
	go l.endOnSignal()
	if o.routed {
		return false, l.measureRouted(o)
	}
	responder, err := l.startResponder()
	if err != nil {
		return false, err
	}
	defer l.stop(responder)
	rep, err := newReport(o)
	if err != nil {
		return false, err
	}
	for _, s := range subjects(o.buffer) {
		if !o.wants(s.name) {
			continue
		}
		if err := l.measureSubject(o, s, rep); err != nil {
			return false, err
		}
	}
	if err := l.measureCosts(o, rep); err != nil {
		return false, err
	}
	rep.judge()
	rep.print(os.Stdout)
	if o.json != "" {
		err = rep.write(o.json)
	}
	return rep.failed(), err
}

// endOnSignal leaves nothing behind when the run is broken off.
func (l *lab) endOnSignal() {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGINT, syscall.SIGTERM)
	<-c
	l.stopAll()
	l.hosts.remove()
	_ = os.RemoveAll(l.dir) // all that is left to do
	os.Exit(130)
}

func newLab(o options, dir string) (*lab, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	l := &lab{dir: dir, self: self, sipward: o.sipward, receiveBuffer: o.buffer, patience: o.patience,
		running: make(map[*process]bool), log: os.Stderr}
	if !o.routed && (o.wants(nameStateful1) || o.wants(nameStateful2) || o.wants(nameStateless)) {
		if l.kamailio, err = exec.LookPath(o.kamailio); err != nil {
			return nil, fmt.Errorf("find Kamailio (Debian: kamailio; or -subjects bare,sipward): %w", err)
		}
	}
	if o.wants(nameSipward) && l.sipward == "" {
		l.sipward = filepath.Join(dir, "sipward")
		cmd := exec.Command("go", "build", "-o", l.sipward, "sipward/cmd/sipward")
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("build sipward: %w", errors.Join(err, errors.New(string(out))))
		}
	}
	return l, nil
}
