package ban

import "net/netip"

// evidence keeps the newest evidence within a budget of bytes. What is oldest
// makes room. The table's lock guards it.
type evidence struct {
	budget, size int
	of           map[netip.Prefix]exhibit
	order        []exhibitID // oldest first; those that of no longer holds are passed over
	last         uint64
}

type exhibit struct {
	data []byte
	n    uint64
}

type exhibitID struct {
	prefix netip.Prefix
	n      uint64
}

func (e *evidence) get(p netip.Prefix) []byte { return e.of[p].data }

func (e *evidence) drop(p netip.Prefix) {
	e.size -= len(e.of[p].data)
	delete(e.of, p)
}

func (e *evidence) put(p netip.Prefix, data []byte) {
	if len(data) == 0 {
		return
	}
	e.drop(p)
	if e.of == nil {
		e.of = make(map[netip.Prefix]exhibit)
	}
	e.last++
	e.of[p] = exhibit{data, e.last}
	e.size += len(data)
	e.order = append(e.order, exhibitID{p, e.last})
	for e.size > e.budget {
		first := e.order[0]
		e.order = e.order[1:]
		if e.holds(first) {
			e.drop(first.prefix)
		}
	}
	if len(e.order) > 2*len(e.of)+1024 {
		var kept []exhibitID
		for _, id := range e.order {
			if e.holds(id) {
				kept = append(kept, id)
			}
		}
		e.order = kept
	}
}

func (e *evidence) holds(id exhibitID) bool { return e.of[id.prefix].n == id.n }
