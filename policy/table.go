package policy

import (
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

// room returns the number of entries that there is room for.
func (t *table[V]) room() int { return len(t.buckets) * ways }

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

// claim returns the value of a key in its locked bucket, a zero one if it is
// new. If another entry had to make room, evicted is a copy of it and lost is
// true.
func (t *table[V]) claim(b *bucket[V], key uint64, now int64) (v *V, evicted V, lost bool) {
	least, at := int64(0), -1
	for i := range b.keys {
		switch {
		case b.keys[i] == key:
			return &b.vals[i], evicted, false
		case at >= 0 && b.keys[at] == 0:
		case b.keys[i] == 0:
			at = i
		default:
			if w := t.worth(&b.vals[i], now); at < 0 || w < least {
				least, at = w, i
			}
		}
	}
	v = &b.vals[at]
	if lost = b.keys[at] != 0; lost {
		evicted = *v
	}
	var zero V
	*v, b.keys[at] = zero, key
	return v, evicted, lost
}
