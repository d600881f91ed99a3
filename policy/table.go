package policy

import (
	"math"
	"math/bits"
	"sync"
	"unsafe"
)

// ways is the number of entries in a bucket of a table.
const ways = 8

// table is a map from keyed hashes to values, in memory whose size is fixed
// when it is made, whatever strangers send. It is set-associative: a key belongs
// to one bucket, which holds a few entries beside its own small lock, so workers
// only meet when their keys share a bucket. The keys come from hashes whose seed
// is random for each engine: nobody can choose messages that fall into another's
// bucket.
//
// When a bucket is full the entry with the lowest worth makes room; each table
// says what that is.
type table[V any] struct {
	mask    uint64
	buckets []bucket[V]
	worth   func(v *V, now int64) int64
}

type bucket[V any] struct {
	mu   sync.Mutex
	keys [ways]uint64 // 0: empty
	vals [ways]V
}

func newTable[V any](entries int, worth func(*V, int64) int64) *table[V] {
	n := uint64(1) << bits.Len64(uint64(max(entries, 1)-1)/ways)
	return &table[V]{mask: n - 1, buckets: make([]bucket[V], n), worth: worth}
}

// bytes returns the memory of an entry, its share of the bucket included.
func (t *table[V]) bytes() float64 { return float64(unsafe.Sizeof(bucket[V]{})) / ways }

// lock returns the bucket of a key, locked.
func (t *table[V]) lock(key uint64) *bucket[V] {
	b := &t.buckets[key>>32&t.mask]
	b.mu.Lock()
	return b
}

// find returns the value of a key, nil if there is none. It is valid as long as
// the bucket is locked.
func (b *bucket[V]) find(key uint64) *V {
	for i := range b.keys {
		if b.keys[i] == key {
			return &b.vals[i]
		}
	}
	return nil
}

// drop forgets a key.
func (b *bucket[V]) drop(key uint64) {
	for i := range b.keys {
		if b.keys[i] == key {
			var zero V
			b.keys[i], b.vals[i] = 0, zero
			return
		}
	}
}

// slot returns where a key is in its locked bucket, or where it may be put: in a
// free place, or in that of the entry with the lowest worth.
func (t *table[V]) slot(b *bucket[V], key uint64, now int64) (i int, found bool) {
	at := -1
	for i := range b.keys {
		if b.keys[i] == key {
			return i, true
		}
		if b.keys[i] == 0 {
			at = i
		}
	}
	if at >= 0 {
		return at, false
	}
	least := int64(math.MaxInt64)
	for i := range b.vals {
		if w := t.worth(&b.vals[i], now); w <= least {
			least, at = w, i
		}
	}
	return at, false
}

// claim returns the value of a key in its locked bucket, a zero one if it is new.
func (t *table[V]) claim(b *bucket[V], key uint64, now int64) *V {
	i, found := t.slot(b, key, now)
	if !found {
		var zero V
		b.keys[i], b.vals[i] = key, zero
	}
	return &b.vals[i]
}

// replace is claim for those who need to know of the entry that made room: it is
// copied to evicted, and lost is true.
func (t *table[V]) replace(b *bucket[V], key uint64, now int64) (v *V, evicted V, lost bool) {
	i, found := t.slot(b, key, now)
	v = &b.vals[i]
	if !found {
		if lost = b.keys[i] != 0; lost {
			evicted = *v
		}
		var zero V
		b.keys[i], *v = key, zero
	}
	return v, evicted, lost
}
