package flow

import "sync"

// Transactions remembers what a response will have to be judged by, where the request
// cannot carry it: a proxy that leaves messages as they are adds no Via. A key is a
// keyed hash (see [Key.Hash]) of what request and response have in common.
//
// Its size is fixed when it is made: 64 bytes for each. Strangers fill it; in a full
// bucket the one that ends first makes room. What is forgotten costs nothing but the
// judgement of one response, which is forwarded all the same.
type Transactions struct {
	buckets []transactionBucket
	locks   [memoryLocks]paddedMutex
}

// MaxNote is the length of the longest note in bytes.
const MaxNote = 64 - 8 - 8 - 1

type transactionBucket [ways]struct {
	key    uint64
	until  int64 // Unix nanoseconds; 0: free
	length uint8
	note   [MaxNote]byte
}

// NewTransactions makes room for about n, rounded up to a power of two.
func NewTransactions(n int) *Transactions {
	size := 1
	for size*ways < n {
		size *= 2
	}
	return &Transactions{buckets: make([]transactionBucket, size)}
}

func (t *Transactions) at(key uint64) (*transactionBucket, *sync.Mutex) {
	i := key & uint64(len(t.buckets)-1)
	return &t.buckets[i], &t.locks[i%memoryLocks].Mutex
}

// Put remembers note, of MaxNote bytes at most, until the given time (Unix
// nanoseconds). A note that is there already is replaced.
func (t *Transactions) Put(key uint64, note []byte, now, until int64) {
	b, mu := t.at(key)
	mu.Lock()
	defer mu.Unlock()
	place := 0
	for i := range b {
		e := &b[i]
		if e.key == key && e.until > now {
			place = i
			break
		}
		if e.until < b[place].until {
			place = i
		}
	}
	e := &b[place]
	e.key, e.until = key, until
	e.length = uint8(copy(e.note[:], note))
}

// Get appends the note to buf; with room for it nothing is allocated.
func (t *Transactions) Get(key uint64, now int64, buf []byte) (note []byte, ok bool) {
	b, mu := t.at(key)
	mu.Lock()
	defer mu.Unlock()
	for i := range b {
		if e := &b[i]; e.key == key && e.until > now {
			return append(buf, e.note[:e.length]...), true
		}
	}
	return buf, false
}
