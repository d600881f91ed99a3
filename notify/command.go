package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// command runs a program with a delivery's JSON on its input. There is one of a
// channel at a time.
type command struct{ c *Channel }

var _ sender = (*command)(nil)

// programEnv is all that a program sees of the environment: ours may hold secrets.
var programEnv = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"}

func (p *command) send(ctx context.Context, d *delivery) error {
	input, err := json.Marshal(d)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, p.c.Run[0], p.c.Run[1:]...)
	cmd.Env, cmd.Dir = programEnv, "/"
	cmd.Stdin = bytes.NewReader(append(input, '\n'))
	said := &tail{}
	cmd.Stdout, cmd.Stderr = said, said
	// Its children are killed with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	// After ErrWaitDelay the program has done its work and left a child behind that holds
	// its output: to run it again would only leave another.
	if err := cmd.Run(); err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		if text := strings.TrimSpace(string(said.text)); text != "" {
			return fmt.Errorf("%s: %w: %s", p.c.Run[0], err, text)
		}
		return fmt.Errorf("%s: %w", p.c.Run[0], err)
	}
	return nil
}

// tail keeps the end of what is written.
type tail struct{ text []byte }

func (t *tail) Write(b []byte) (int, error) {
	t.text = append(t.text, b...)
	if over := len(t.text) - maxError; over > 0 {
		t.text = append(t.text[:0], t.text[over:]...)
	}
	return len(b), nil
}
