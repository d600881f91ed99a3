//go:build linux

package e2e_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"sipward/e2e/lab"
	"sipward/e2e/phone"
)

// TestFailover stands two Kamailios behind sipward, that know nothing of each other.
func TestFailover(t *testing.T) {
	lab.Need(t, "kamailio")
	if direct {
		t.Skip("nothing chooses a PBX without sipward")
	}
	t.Parallel()
	s := &site{Lab: labs.New(t)}
	one, two := s.StartKamailio(t, lab.PBX1), s.StartKamailio(t, lab.PBX2)
	s.pbx = one
	s.start(t, lab.Config{PBX: []string{"203.0.113.2:5060", "203.0.113.3:5060"},
		Extra: "health: {interval: 500ms, timeout: 400ms, fall: 2, rise: 1}\n"})
	f := &failover{site: s, both: []*lab.Kamailio{one, two}}
	t.Run("stickiness", f.testStickiness)
	t.Run("one-dies", f.testOneDies)
	t.Run("all-die", f.testAllDie)
}

type failover struct {
	*site
	both []*lab.Kamailio
}

// home is the index of the PBX that an account is registered at; it must be one.
func (f *failover) home(t *testing.T, user string) int {
	t.Helper()
	found := -1
	lab.Poll(t, patience, user+" is registered at one PBX", func() error {
		found = -1
		for i, k := range f.both {
			select {
			case <-k.Done():
				continue
			default:
			}
			uris, err := k.Contacts(user)
			if err != nil {
				return err
			}
			if len(uris) > 0 && found >= 0 {
				t.Fatalf("%s is registered at both PBXes", user)
			}
			if len(uris) > 0 {
				found = i
			}
		}
		if found < 0 {
			return errors.New("it is at none")
		}
		return nil
	})
	return found
}

// testStickiness: all that belongs to an account goes to one PBX, over both transports, and both PBXes get some.
func (f *failover) testStickiness(t *testing.T) {
	homes := map[int][]string{}
	for i, user := range append(append([]string(nil), lab.Plain...), lab.NAT...) {
		w := []wire{udp, tcp}[i%2]
		p := f.registered(t, w, user, 1+i)
		h := f.home(t, user)
		homes[h] = append(homes[h], user)
		// A call to oneself finds the phone only at the PBX that has it.
		out, in := talk(t, p, p)
		want(t, 200)(out.Bye(within(t, patience)))
		ended(t, in)
	}
	if len(homes) != 2 {
		t.Errorf("of the two PBXes only one was used: %v", homes)
	}
}

// testOneDies: the PBX that a phone uses goes down, and the other takes the phone over. Its connection is closed with it.
func (f *failover) testOneDies(t *testing.T) {
	p, q := f.registered(t, udp, "1001", 1), f.registered(t, tcp, "1001", 2)
	h := f.home(t, "1001")
	begun := time.Now()
	f.both[h].Stop()
	select {
	case <-q.Lost():
	case <-time.After(patience):
		t.Error("the phone's connection outlived that of its PBX")
	}
	lab.Poll(t, 2*patience, "the other PBX takes over", func() error {
		r, err := p.Register(within(t, patience), 300)
		if err == nil && r.Status() != 200 {
			err = errors.New(r.StartLine())
		}
		return err
	})
	t.Logf("registered at the other PBX %v after the first was killed", time.Since(begun).Round(time.Millisecond))
	if now := f.home(t, "1001"); now == h {
		t.Fatal("registered at a dead PBX")
	}
	lab.Poll(t, patience, "status says which PBX is down", func() error {
		out, err := f.sipward.CLI("status")
		if err == nil && !strings.Contains(out, "DOWN") {
			err = errors.New(out)
		}
		return err
	})
	if err := q.Reconnect(); err != nil {
		t.Fatal(err)
	}
	want(t, 200)(q.Register(within(t, patience), 300))
	out, in := talk(t, p, p) // through the PBX that is left, to both of the account's phones
	want(t, 200)(out.Bye(within(t, patience)))
	ended(t, in)
	f.both[h] = f.StartKamailio(t, f.both[h].Addr())
}

// testAllDie: with no PBX left sipward says so itself, at once; when one comes back, so does service.
func (f *failover) testAllDie(t *testing.T) {
	u, c := f.phone(t, udp, "1002", 1), f.phone(t, tcp, "1002", 2)
	for _, k := range f.both {
		k.Stop()
	}
	refused := func(p *phone.Phone) error {
		r, err := p.Once(within(t, 3*time.Second), p.Registration(300, "<"+p.Contact()+">"))
		if err == nil && r.Status() != 503 {
			err = errors.New(r.StartLine())
		}
		return err
	}
	lab.Poll(t, patience, "sipward answers 503", func() error { return refused(u) })
	begun := time.Now()
	if err := refused(u); err != nil {
		t.Error(err)
	}
	r := must[*phone.Received](t)(u.Once(within(t, patience), u.NewRequest("OPTIONS", u.AoR())))
	if took := time.Since(begun); r.Status() != 503 || took > patience {
		t.Errorf("two refusals took %v, the last was %q", took, r.StartLine())
	}
	if r.Value("Retry-After") == "" {
		t.Error("503 without Retry-After")
	}
	lab.Poll(t, patience, "503 over TCP", func() error {
		select {
		case <-c.Lost(): // it was paired with a connection of a PBX that died
			if err := c.Reconnect(); err != nil {
				return err
			}
		default:
		}
		return refused(c)
	})
	f.both[0] = f.StartKamailio(t, f.both[0].Addr())
	begun = time.Now()
	for _, p := range []*phone.Phone{u, c} {
		lab.Poll(t, 2*patience, "service is back", func() error {
			select {
			case <-p.Lost():
				if err := p.Reconnect(); err != nil {
					return err
				}
			default:
			}
			r, err := p.Register(within(t, patience), 300)
			if err == nil && r.Status() != 200 {
				err = fmt.Errorf("answer %q", r.StartLine())
			}
			return err
		})
	}
	t.Logf("service was back %v after the PBX", time.Since(begun).Round(time.Millisecond))
}
