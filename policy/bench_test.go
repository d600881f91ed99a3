package policy_test

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sipward/policy"
	"sipward/policy/ban"
	"sipward/policy/scanner"
)

// flow is the messages of one phone, made once.
type flow struct {
	challenged, registers   policy.Request
	challenge, registration policy.Outcome
	invite                  policy.Request
	answered                policy.Outcome
}

func forged(n uint32) netip.AddrPort {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], n*2654435761)
	b[0] = 100 + b[0]%100
	return netip.AddrPortFrom(netip.AddrFrom4(b), 5060)
}

func newFlow(n uint32, scan *scanner.Message) *flow {
	src, account := forged(n), fmt.Appendf(nil, "%d@pbx.example.com", n)
	register, invite := []byte("REGISTER"), []byte("INVITE")
	f := &flow{}
	f.challenged = policy.Request{Source: src, Method: register, Account: account, Target: []byte("pbx.example.com"), Scan: scan}
	f.registers = f.challenged
	f.registers.HasCredentials, f.registers.Nonce, f.registers.Proven, f.registers.Credentials = true, policy.NonceIssued, true, uint64(n)
	f.challenge = policy.Outcome{Source: src, Method: register, Account: account, Status: 401}
	f.registration = policy.Outcome{
		Source: src, Method: register, Account: account, Status: 200, Expires: 3600,
		HasCredentials: true, Nonce: policy.NonceIssued, Proven: true, Credentials: uint64(n),
	}
	f.invite = f.registers
	f.invite.Method, f.invite.Target = invite, []byte("200@pbx.example.com")
	f.answered = f.registration
	f.answered.Method, f.answered.Expires = invite, 0
	return f
}

// register is a registration with its challenge.
func (f *flow) register(e *policy.Engine, now int64) {
	f.challenged.Transaction, f.challenge.Transaction = uint64(now), uint64(now)
	f.registers.Transaction, f.registration.Transaction = uint64(now)+1, uint64(now)+1
	e.Decide(&f.challenged, now)
	e.Observe(&f.challenge, now)
	e.Decide(&f.registers, now)
	e.Observe(&f.registration, now)
}

func (f *flow) call(e *policy.Engine, now int64) {
	f.invite.Transaction, f.answered.Transaction, f.answered.Dialog = uint64(now), uint64(now), uint64(now)
	e.Decide(&f.invite, now)
	e.Observe(&f.answered, now)
}

func (f *flow) hangUp(e *policy.Engine, now int64) {
	r, o := f.invite, f.answered
	r.Method, r.InDialog, r.HasCredentials, r.Nonce, r.Transaction = []byte("BYE"), true, false, policy.NonceNone, uint64(now)
	o.Method, o.InDialog, o.HasCredentials, o.Nonce, o.Transaction = r.Method, true, false, policy.NonceNone, uint64(now)
	e.Decide(&r, now)
	e.Observe(&o, now)
}

func benchEngine(tb testing.TB, scan bool) *policy.Engine {
	cfg := simConfig()
	cfg.Sources, cfg.Flood = 0, policy.Flood{Rate: 100, Burst: 400}
	bans, err := ban.New(ban.Config{}, 1)
	if err != nil {
		tb.Fatal(err)
	}
	cfg.Bans = bans
	if cfg.Places, err = ban.NewPlaces(ban.PlacesConfig{}, 1); err != nil {
		tb.Fatal(err)
	}
	if scan {
		cfg.Scanner.Set = scanner.Default()
	}
	return policy.New(cfg)
}

var innocent = &scanner.Message{
	Method: []byte("REGISTER"), RequestURI: []byte("sip:pbx.example.com"), UserAgent: []byte("Yealink SIP-T46S 66.85.0.5"),
	FromUser: []byte("200"), FromHost: []byte("pbx.example.com"), FromTag: []byte("3921476035"), ToUser: []byte("200"), ToHost: []byte("pbx.example.com"),
	CallID: []byte("0_1293847561@192.168.1.20"), Contact: []byte("<sip:200@192.168.1.20:5060>"), ViaHost: []byte("192.168.1.20"), ViaBranch: []byte("z9hG4bK1409361873"),
}

// become makes the flow that of another phone, in place: what a message is read
// from is in the cache when it is judged.
func (f *flow) become(n uint32) {
	src := forged(n)
	f.challenged.Source, f.challenge.Source, f.registers.Source, f.registration.Source = src, src, src, src
	f.invite.Source, f.answered.Source = src, src
	for i := range 7 {
		f.challenged.Account[6-i] = byte('0' + n%10)
		n /= 10
	}
}

// BenchmarkDecideAndObserve: one op is one Decide and one Observe. Registrations
// are half challenges, calls are half their ends.
func BenchmarkDecideAndObserve(b *testing.B) {
	for _, v := range []struct {
		name   string
		phones uint32
		scan   *scanner.Message
	}{{"1-phone", 1, nil}, {"1k-phones", 1000, nil}, {"50k-phones", 50_000, nil}, {"1k-phones/signatures", 1000, innocent}} {
		e := benchEngine(b, v.scan != nil)
		f := newFlow(1_000_000, v.scan)
		now := int64(time.Hour)
		for i := range v.phones {
			f.become(i)
			f.register(e, now)
		}
		b.Run("register/"+v.name, func(b *testing.B) {
			b.ReportAllocs()
			for i := uint32(0); b.Loop(); i++ {
				now += int64(time.Millisecond)
				f.become(i / 2 % v.phones)
				if i&1 == 0 {
					e.Decide(&f.challenged, now)
					e.Observe(&f.challenge, now)
				} else {
					f.registers.Transaction, f.registration.Transaction = uint64(now), uint64(now)
					e.Decide(&f.registers, now)
					e.Observe(&f.registration, now)
				}
			}
		})
		b.Run("call/"+v.name, func(b *testing.B) {
			b.ReportAllocs()
			for i := uint32(0); b.Loop(); i++ {
				now += int64(time.Millisecond)
				f.become(i / 2 % v.phones)
				if i&1 == 0 {
					f.call(e, now)
				} else {
					f.hangUp(e, now)
				}
			}
		})
	}
}

// A flood of forged sources, each a stranger who is challenged.
func BenchmarkStrangers(b *testing.B) {
	e := benchEngine(b, false)
	f := newFlow(0, nil)
	now := int64(time.Hour)
	b.ReportAllocs()
	for i := uint32(0); b.Loop(); i++ {
		now += 3000
		src := forged(i)
		f.challenged.Source, f.challenge.Source = src, src
		e.Decide(&f.challenged, now)
		e.Observe(&f.challenge, now)
	}
}

// A flood of forged guesses.
func BenchmarkForgedGuesses(b *testing.B) {
	e := benchEngine(b, false)
	f := newFlow(0, nil)
	now := int64(time.Hour)
	f.registers.Nonce, f.registration.Nonce, f.registers.Proven, f.registration.Proven = policy.NonceUnknown, policy.NonceUnknown, false, false
	f.registration.Status = 401
	b.ReportAllocs()
	for i := uint32(0); b.Loop(); i++ {
		now += 3000
		src := forged(i)
		f.registers.Source, f.registration.Source = src, src
		f.registers.Transaction, f.registration.Transaction = uint64(i), uint64(i)
		e.Decide(&f.registers, now)
		e.Observe(&f.registration, now)
	}
}

func BenchmarkDecideAndObserveParallel(b *testing.B) {
	e := benchEngine(b, false)
	var worker atomic.Uint32
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		w := worker.Add(1)
		flows := make([]*flow, 1024)
		for i := range flows {
			flows[i] = newFlow(w<<16|uint32(i), nil)
		}
		now := int64(time.Hour)
		for i := 0; pb.Next(); i++ {
			now += 2000
			f := flows[i%len(flows)]
			f.registers.Transaction, f.registration.Transaction = uint64(now), uint64(now)
			e.Decide(&f.registers, now)
			e.Observe(&f.registration, now)
		}
	})
}

func BenchmarkStanding(b *testing.B) {
	e := benchEngine(b, false)
	flows := make([]*flow, 50_000)
	for i := range flows {
		flows[i] = newFlow(uint32(i), nil)
		flows[i].register(e, 1)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		e.Standing(flows[i%len(flows)].invite.Source.Addr(), 1)
	}
}

// Nothing that ends without a verdict allocates, nor does what is only counted.
func TestNoAllocations(t *testing.T) {
	e := benchEngine(t, true)
	f := newFlow(1, innocent)
	stranger := newFlow(2, innocent)
	now := int64(time.Hour)
	f.register(e, now)
	wrong := stranger.registration
	wrong.Status = 401
	forgedNonce := wrong
	forgedNonce.Nonce, forgedNonce.Proven = policy.NonceUnknown, false
	options := policy.Request{Source: stranger.invite.Source, Method: []byte("OPTIONS"), Target: []byte("1@x"), Scan: innocent}
	optioned := policy.Outcome{Source: stranger.invite.Source, Method: options.Method, Target: options.Target, Status: 200}
	for _, tt := range []struct {
		name string
		f    func()
	}{
		{"a registration", func() { f.register(e, now) }},
		{"a call", func() { f.call(e, now) }},
		{"a stranger who is challenged", func() { e.Decide(&stranger.challenged, now); e.Observe(&stranger.challenge, now) }},
		{"a stranger who fails", func() { wrong.Transaction = uint64(now); e.Observe(&wrong, now) }},
		{"a forged guess", func() { forgedNonce.Transaction = uint64(now); e.Observe(&forgedNonce, now) }},
		{"OPTIONS", func() { e.Decide(&options, now); e.Observe(&optioned, now) }},
		{"Standing", func() { e.Standing(f.invite.Source.Addr(), now) }},
		{"Malformed", func() { e.Malformed(stranger.invite.Source, policy.UDP, "bare-cr", now) }},
		{"Flooded", func() { e.Flooded(stranger.invite.Source, policy.UDP, now) }},
		{"Tick", func() { e.Tick(now) }},
	} {
		if n := testing.AllocsPerRun(500, func() { now += int64(20 * time.Second); tt.f() }); n != 0 {
			t.Errorf("%s: %v allocations", tt.name, n)
		}
	}
}

func heapBytes() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// Five million forged sources: the memory stays as it is, nobody in good
// standing loses it, and no attacker's count is washed away.
func TestFiveMillionForgedSources(t *testing.T) {
	n := uint32(5_000_000)
	if raceEnabled || testing.Short() {
		n = 200_000
	}
	before := heapBytes()
	e := benchEngine(t, false)
	t.Logf("an engine takes %.1f MiB", float64(heapBytes()-before)/(1<<20))
	now := int64(time.Hour)
	phones := make([]*flow, 2000)
	for i := range phones {
		phones[i] = newFlow(uint32(i), nil)
		a := netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
		p := phones[i]
		for _, src := range []*netip.AddrPort{&p.challenged.Source, &p.registers.Source, &p.challenge.Source, &p.registration.Source} {
			*src = netip.AddrPortFrom(a, 5060)
		}
		p.register(e, now)
	}
	guesser := newFlow(1<<20, nil)
	guesser.registration.Status = 401
	fail := func(i int) {
		guesser.registration.Transaction = uint64(i)
		e.Observe(&guesser.registration, now)
	}
	for i := range hitCount - 1 {
		fail(i)
	}
	before = heapBytes()
	f := newFlow(0, nil)
	guess := *f
	guess.registers.Nonce, guess.registration.Nonce, guess.registers.Proven, guess.registration.Proven = policy.NonceUnknown, policy.NonceUnknown, false, false
	guess.registration.Status = 401
	invite, ringing := f.invite, f.answered
	invite.HasCredentials = false
	ringing.Status = 407
	step := int64(40*time.Second) / int64(n)
	for i := range n {
		now += step
		src := forged(i + 1<<21)
		f.challenged.Source, f.challenge.Source = src, src
		e.Decide(&f.challenged, now)
		e.Observe(&f.challenge, now)
		switch i % 4 {
		case 0:
			guess.registers.Source, guess.registration.Source = src, src
			guess.registers.Transaction, guess.registration.Transaction = uint64(i), uint64(i)
			e.Decide(&guess.registers, now)
			e.Observe(&guess.registration, now)
		case 1:
			invite.Source, invite.Transaction = src, uint64(i)*0x9E3779B97F4A7C15
			e.Decide(&invite, now) // never answered
		}
	}
	if grown := heapBytes() - before; grown > 256<<10 {
		t.Errorf("the heap grew by %d bytes", grown)
	}
	lost := 0
	for _, p := range phones {
		if e.Standing(p.registers.Source.Addr(), now) != policy.Good {
			lost++
		}
	}
	if lost > 0 {
		t.Errorf("%d of %d phones lost their standing", lost, len(phones))
	}
	if e.Gate().Standing(guesser.registers.Source.Addr(), now).Pass() {
		if fail(100); e.Gate().Standing(guesser.registers.Source.Addr(), now).Pass() {
			t.Error("the guesser's failures were forgotten")
		}
	} else {
		t.Error("the guesser was banned early")
	}
	runtime.KeepAlive(e)
}

// All at once, for the race detector; the sum of what is counted is right.
func TestConcurrently(t *testing.T) {
	e := benchEngine(t, true)
	var wg sync.WaitGroup
	const workers, rounds = 4, 300
	addr := newFlow(7, nil).registers.Source.Addr()
	var full atomic.Int32
	for w := range workers {
		wg.Go(func() {
			now := int64(time.Hour)
			same, own := newFlow(7, innocent), newFlow(uint32(100+w), innocent)
			same.registration.Status = 401
			for i := range rounds {
				now += int64(time.Millisecond)
				own.register(e, now)
				own.call(e, now)
				same.registers.Transaction, same.registration.Transaction = uint64(w*rounds+i), uint64(w*rounds+i)
				if e.Decide(&same.registers, now).Verdict == policy.Pass && e.Gate().Check(addr, now).Pass() {
					if e.Observe(&same.registration, now).Verdict == policy.Pass {
						full.Add(1)
					}
				}
				e.Malformed(own.invite.Source, policy.TCP, "bare-cr", now)
				if i%50 == 0 {
					e.Explain(addr, now)
					e.Reload(simConfig())
					e.Tick(now)
					e.Notices(0)
				}
			}
		})
	}
	wg.Wait()
	if n := full.Load(); n != hitCount {
		t.Errorf("four workers together let %d answers pass, want %d", n, hitCount)
	}
}
