package flow_test

import (
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"sipward/proxy/flow"
)

// TestMemoryModel compares a Memory that never fills with a map.
func TestMemoryModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m, model := flow.NewMemory(4096), map[uint64]int64{}
		now := int64(1)
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			now += rapid.Int64Range(0, 5).Draw(t, "later")
			key := rapid.Uint64Range(0, 20).Draw(t, "key") * 0x9e3779b97f4a7c15
			want := model[key] > now
			if rapid.Bool().Draw(t, "add") {
				until := now + rapid.Int64Range(1, 10).Draw(t, "for")
				if got := m.Add(key, now, until); got != want {
					t.Fatalf("Add says known %v, want %v", got, want)
				}
				model[key] = max(model[key], until)
			} else if got := m.Has(key, now); got != want {
				t.Fatalf("Has %v, want %v", got, want)
			}
		}
	})
}

// TestMemoryFull: a full Memory keeps the newest and does not grow.
func TestMemoryFull(t *testing.T) {
	m := flow.NewMemory(1 << 12)
	size := m.Bytes()
	rng := rand.New(rand.NewPCG(1, 2))
	var recent []uint64
	for now := range int64(1 << 16) {
		key := rng.Uint64()
		m.Add(key, now, now+1<<20)
		recent = append(recent, key)
	}
	kept := 0
	for _, key := range recent[len(recent)-1024:] {
		if m.Has(key, 1<<16) {
			kept++
		}
	}
	if kept < 1000 {
		t.Errorf("%d of the newest 1,024 keys are known", kept)
	}
	if m.Bytes() != size {
		t.Errorf("grew from %d to %d bytes", size, m.Bytes())
	}
}

func TestMemoryAllocs(t *testing.T) {
	m := flow.NewMemory(1 << 12)
	key := uint64(1)
	if n := testing.AllocsPerRun(1000, func() {
		key *= 0x9e3779b97f4a7c15
		m.Add(key, 1, 2)
		m.Has(key, 1)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkMemory(b *testing.B) {
	m := flow.NewMemory(1 << 19)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		key := rand.Uint64()
		for pb.Next() {
			key = key*6364136223846793005 + 1442695040888963407
			m.Add(key, 1, 2)
			m.Has(key, 1)
		}
	})
}
