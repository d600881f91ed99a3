package flow_test

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"sipward/proxy/flow"
)

// TestTransactionsModel compares Transactions that never fill with a map.
func TestTransactionsModel(t *testing.T) {
	type kept struct {
		note  []byte
		until int64
	}
	rapid.Check(t, func(t *rapid.T) {
		table, model := flow.NewTransactions(4096), map[uint64]kept{}
		now := int64(1)
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			now += rapid.Int64Range(0, 5).Draw(t, "later")
			key := rapid.Uint64Range(0, 20).Draw(t, "key") * 0x9e3779b97f4a7c15
			if rapid.Bool().Draw(t, "put") {
				note := rapid.SliceOfN(rapid.Byte(), 0, flow.MaxNote).Draw(t, "note")
				until := now + rapid.Int64Range(1, 10).Draw(t, "for")
				table.Put(key, note, now, until)
				model[key] = kept{note, until}
				continue
			}
			note, ok := table.Get(key, now, nil)
			want, known := model[key]
			known = known && want.until > now
			if ok != known || known && !bytes.Equal(note, want.note) {
				t.Fatalf("Get gives %x %v, want %x %v", note, ok, want.note, known)
			}
		}
	})
}

// TestTransactionsFull: when full, the newest are kept.
func TestTransactionsFull(t *testing.T) {
	table := flow.NewTransactions(1 << 12)
	rng := rand.New(rand.NewPCG(1, 2))
	var recent []uint64
	for now := range int64(1 << 15) {
		key := rng.Uint64()
		table.Put(key, []byte("note"), now, now+1<<20)
		recent = append(recent, key)
	}
	found := 0
	for _, key := range recent[len(recent)-1024:] {
		if _, ok := table.Get(key, 1<<15, nil); ok {
			found++
		}
	}
	if found < 1000 {
		t.Errorf("%d of the newest 1,024 are known", found)
	}
}

func TestTransactionsAllocs(t *testing.T) {
	table := flow.NewTransactions(1 << 12)
	key, buf := uint64(1), make([]byte, 0, flow.MaxNote)
	if n := testing.AllocsPerRun(1000, func() {
		key *= 0x9e3779b97f4a7c15
		table.Put(key, buf[:5], 1, 2)
		table.Get(key, 1, buf)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkTransactions(b *testing.B) {
	table := flow.NewTransactions(1 << 17)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		key, buf := rand.Uint64(), make([]byte, 0, flow.MaxNote)
		for pb.Next() {
			key = key*6364136223846793005 + 1442695040888963407
			table.Put(key, buf[:5], 1, 2)
			table.Get(key, 1, buf)
		}
	})
}
