//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"sipward/e2e/bench/load"
	"sipward/e2e/bench/mmsg"
)

// lab is where everything of one run takes place: a folder, the responder, free ports.
type lab struct {
	dir           string
	self          string // this program, which also plays the other parts
	kamailio      string
	sipward       string
	receiveBuffer int
	pbx           netip.AddrPort
	responder     *process
	generatorPort uint16
	runs          uint32
	patience      time.Duration // left for waiting for a quiet machine
	mu            sync.Mutex
	running       map[*process]bool
	hosts         *hosts // nil: everything is on the loopback interface
	log           io.Writer
}

// subject is one edge under test; command prepares its files and says how to start it.
type subject struct {
	name    string
	command func(l *lab, listen, pbx netip.AddrPort) ([]string, error)
	listen  netip.AddrPort // where it is sent to, if it is not on the loopback interface
}

// process is a running part and what it wrote.
type process struct {
	cmd    *exec.Cmd
	output string
	done   chan error
}

// start runs a part in a process group of its own, which is asked to end when this program dies:
// Kamailio, killed, would leave its workers behind.
func (l *lab) start(name string, args []string) (*process, error) {
	path := filepath.Join(l.dir, strings.ReplaceAll(name, " ", "-")+".log")
	f, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("create log: %w", err)
	}
	defer f.Close()
	p := &process{cmd: exec.Command(args[0], args[1:]...), output: path, done: make(chan error, 1)}
	p.cmd.Stdout, p.cmd.Stderr = f, f
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	l.mu.Lock()
	l.running[p] = true
	l.mu.Unlock()
	go p.wait()
	return p, nil
}

// stop ends one part.
func (l *lab) stop(p *process) {
	l.mu.Lock()
	delete(l.running, p)
	l.mu.Unlock()
	p.stop()
}

// stopAll ends everything, for the end in the middle of a run.
func (l *lab) stopAll() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for p := range l.running {
		p.stop()
	}
}

func (p *process) wait() { p.done <- p.cmd.Wait() }

// stop ends the process group, by force after five seconds.
func (p *process) stop() {
	group := -p.cmd.Process.Pid
	_ = syscall.Kill(group, syscall.SIGTERM) // it may be gone already
	select {
	case <-p.done:
	case <-time.After(5 * time.Second):
		_ = syscall.Kill(group, syscall.SIGKILL)
		<-p.done
	}
	_ = syscall.Kill(group, syscall.SIGKILL) // stragglers of the group
}

// tail is the end of what the process wrote, for error messages.
func (p *process) tail() string {
	b, err := os.ReadFile(p.output)
	if err != nil {
		return ""
	}
	if len(b) > 2000 {
		b = b[len(b)-2000:]
	}
	return strings.TrimSpace(string(b))
}

// freePort finds a UDP port that is free on an address now.
func freePort(addr netip.Addr) (netip.AddrPort, error) {
	s, err := mmsg.Listen(netip.AddrPortFrom(addr, 0), mmsg.Options{})
	if err != nil {
		return netip.AddrPort{}, err
	}
	defer s.Close()
	return s.LocalAddr()
}

// startResponder starts the PBX.
func (l *lab) startResponder() (*process, error) {
	if l.hosts == nil {
		pbx, err := freePort(netip.MustParseAddr("127.0.0.2"))
		if err != nil {
			return nil, err
		}
		gen, err := freePort(netip.IPv4Unspecified())
		if err != nil {
			return nil, err
		}
		l.pbx, l.generatorPort = pbx, gen.Port()
	} else {
		l.pbx, l.generatorPort = pbxAddress, 30000
	}
	pbx := l.pbx
	p, err := l.start("responder", l.hosts.on(hostPBX, l.self, "respond", "-listen", pbx.String()))
	if err != nil {
		return nil, err
	}
	if err := l.await(p, pbx); err != nil {
		l.stop(p)
		return nil, err
	}
	l.responder = p
	return p, nil
}

// startSubject starts an edge and waits until it carries a transaction.
func (l *lab) startSubject(s subject) (*process, netip.AddrPort, error) {
	listen := s.listen
	var err error
	if l.hosts == nil {
		listen, err = freePort(netip.MustParseAddr("127.0.0.1"))
	}
	if err != nil {
		return nil, listen, err
	}
	args, err := s.command(l, listen, l.pbx)
	if err != nil {
		return nil, listen, err
	}
	p, err := l.start(s.name, l.hosts.on(hostEdge, args...))
	if err != nil {
		return nil, listen, err
	}
	if err := l.await(p, listen); err != nil {
		l.stop(p)
		return nil, listen, fmt.Errorf("%s: %w\n%s", s.name, err, p.tail())
	}
	return p, listen, nil
}

// await sends single transactions until one is answered.
func (l *lab) await(p *process, target netip.AddrPort) error {
	deadline := time.Now().Add(15 * time.Second)
	for time.Now().Before(deadline) {
		select {
		case err := <-p.done:
			p.done <- err
			return fmt.Errorf("ended at once: %w", errors.Join(err, errors.New(p.tail())))
		default:
		}
		r, err := l.generate(load.Config{Target: target, Sources: 1, Rate: 10, Duration: 100 * time.Millisecond, Flow: load.Register})
		if err != nil {
			return err
		}
		if r.Answered == 1 {
			return nil
		}
	}
	return errors.New("no answer within 15 s")
}

// generate runs the load generator as a process of its own.
func (l *lab) generate(cfg load.Config) (load.Result, error) {
	l.runs++
	args := l.hosts.on(hostWAN, l.self, "generate", fmt.Sprintf("-routed=%t", l.hosts != nil),
		"-target", cfg.Target.String(), "-port", fmt.Sprint(l.generatorPort), "-sources", fmt.Sprint(cfg.Sources),
		"-rate", fmt.Sprint(cfg.Rate), "-duration", cfg.Duration.String(), "-flow", string(cfg.Flow), "-run", fmt.Sprint(l.runs))
	cmd := exec.CommandContext(context.Background(), args[0], args[1:]...)
	cmd.Stderr = l.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.Output()
	if err != nil {
		return load.Result{}, fmt.Errorf("generate load: %w", err)
	}
	var r load.Result
	if err := json.Unmarshal(out, &r); err != nil {
		return load.Result{}, fmt.Errorf("read the generator's result: %w", err)
	}
	return r, nil
}
