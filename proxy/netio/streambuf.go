package netio

import "sync"

const smallestBuf = 4096

// streamBuf is a connection's receive buffer.
type streamBuf struct {
	b     []byte
	class int
}

// bufferPool lends receive buffers. Each class is four times as large as the
// one before it; the last holds the longest message.
type bufferPool struct {
	classes []sync.Pool
}

func newBufferPool(maxMessage int) bufferPool {
	n := 1
	for size := smallestBuf; size < maxMessage; size *= 4 {
		n++
	}
	p := bufferPool{classes: make([]sync.Pool, n)}
	for i := range p.classes {
		p.classes[i].New = func() any {
			return &streamBuf{b: make([]byte, smallestBuf<<(2*i)), class: i}
		}
	}
	return p
}

func (p *bufferPool) get() *streamBuf { return p.classes[0].Get().(*streamBuf) }

// larger returns a buffer of the next class, or b when there is none.
func (p *bufferPool) larger(b *streamBuf) *streamBuf {
	if b.class+1 == len(p.classes) {
		return b
	}
	return p.classes[b.class+1].Get().(*streamBuf)
}

func (p *bufferPool) put(b *streamBuf) { p.classes[b.class].Put(b) }
