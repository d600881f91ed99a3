//go:build linux

package e2e_test

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"

	"sipward/e2e/lab"
	"sipward/e2e/phone"
)

// contacts waits until the PBX has so many contacts for an account, and gives them.
func (s *site) contacts(t *testing.T, user string, n int) []string {
	t.Helper()
	var found []string
	lab.Poll(t, patience, fmt.Sprintf("%s has %d contacts for %s", s.pbx.Name(), n, user), func() error {
		var err error
		if found, err = s.pbx.Contacts(user); err == nil && len(found) != n {
			err = fmt.Errorf("it has %q", found)
		}
		return err
	})
	return found
}

// shows fails unless a 200 to REGISTER lists that contact URI exactly as the phone wrote it.
func shows(t *testing.T, r *phone.Received, uri string) {
	t.Helper()
	for _, c := range r.List("Contact") {
		if phone.AddressURI(c) == uri {
			return
		}
	}
	t.Fatalf("the 200 to REGISTER does not show the phone's contact %q byte for byte, but %q", uri, r.Values("Contact"))
}

// testRegister: digest, a wrong password, the phone's own Contact in the 200, registering again, and taking it back.
func (s *site) testRegister(t *testing.T, w wire) {
	wrong := s.phoneWith(t, w, phone.Config{User: "1001", Password: "guess"}, 0)
	r := must[*phone.Received](t)(wrong.Register(within(t, patience), 300))
	if st := r.Status(); st != 401 && st != 403 {
		t.Fatalf("a wrong password was answered %q", r.StartLine())
	}
	s.contacts(t, "1001", 0)

	p := s.phone(t, w, "1001", 1)
	first := want(t, 401)(p.Once(within(t, patience), p.Registration(300, "<"+p.Contact()+">")))
	if nonce := first.Value("WWW-Authenticate"); !strings.Contains(nonce, "nonce=") {
		t.Fatalf("no challenge in %q", first.Raw)
	}
	r = register(t, p)
	shows(t, r, p.Contact())
	if n := len(r.Values("Via")); n != 1 {
		t.Errorf("the 200 to REGISTER has %d Vias, want the phone's own alone: %q", n, r.Values("Via"))
	}
	in := s.contacts(t, "1001", 1)
	if !s.bare() && in[0] == p.Contact() {
		t.Errorf("the PBX knows the phone's own contact %q: it would call around sipward", in[0])
	}
	shows(t, register(t, p), p.Contact())
	s.contacts(t, "1001", 1)
	want(t, 200)(p.Register(within(t, patience), 0))
	s.contacts(t, "1001", 0)
}

// testContacts: several phones on one account, odd but legal contacts, one leaves, then all ("*").
func (s *site) testContacts(t *testing.T, w wire) {
	a := s.phone(t, w, "1008", 1)
	port := 41000
	transport := cmp.Or(w.over.Param(), ";transport=udp")
	// Asterisk would write the escape of a character that needs none, %41 say, in the clear.
	odd := fmt.Sprintf("sip:1008@%v:%d%s;ob;x-line=%%20b;line=7f3a", lab.Phone(2), port, transport)
	b := s.phoneWith(t, w, phone.Config{User: "1008", Contact: odd}, 2)
	shows(t, register(t, a), a.Contact())
	// As real phones write it: a display name with a comma, an instance, a quality.
	r := want(t, 200)(b.Do(within(t, patience), b.Registration(300,
		`"Desk, 2nd" <`+odd+`>;+sip.instance="<urn:uuid:00000000-0000-1000-8000-000a95a0e128>";q=0.7`)))
	shows(t, r, odd)
	shows(t, r, a.Contact())
	if n := len(r.List("Contact")); n != 2 {
		t.Errorf("%d contacts in the 200, want 2: %q", n, r.Values("Contact"))
	}
	uris := s.contacts(t, "1008", 2)
	slices.Sort(uris)
	if len(slices.Compact(uris)) != 2 {
		t.Errorf("two phones have one contact at the PBX: %q", uris)
	}
	r = want(t, 200)(a.Register(within(t, patience), 0))
	s.contacts(t, "1008", 1)
	shows(t, r, odd)
	want(t, 200)(b.Do(within(t, patience), b.Registration(0, "*")))
	s.contacts(t, "1008", 0)
}

// testOneAddress: two phones behind one address (of a NAT, say) with different ports are two phones.
func (s *site) testOneAddress(t *testing.T, w wire) {
	a, b := s.registered(t, w, "1003", 3), s.registered(t, w, "1004", 3)
	from := s.registered(t, w, "1001", 1)
	for _, to := range []*phone.Phone{a, b} {
		s.sendMessage(t, from, to, "for "+to.AoR())
		r := must[*phone.Received](t)(to.WaitRequest(within(t, patience), "MESSAGE"))
		if got := string(r.Body()); got != "for "+to.AoR() {
			t.Fatalf("%s got the text %q", to.AoR(), got)
		}
	}
	if !w.over.Connected() { // what came to a phone came to its own port, or the sockets would not have received it
		return
	}
	if a.Local() == b.Local() {
		t.Fatal("two connections on one port")
	}
}

// sendMessage sends a text from one phone to another, at most so often as it takes (a PBX may be slow to know a contact).
func (s *site) sendMessage(t *testing.T, from, to *phone.Phone, text string) {
	t.Helper()
	req := from.NewRequest("MESSAGE", to.AoR(), phone.Header{Name: "Content-Type", Value: "text/plain"})
	req.Body = []byte(text)
	r := must[*phone.Received](t)(from.Do(within(t, patience), req))
	if r.Status()/100 != 2 {
		t.Fatalf("MESSAGE was answered %q", r.StartLine())
	}
}
