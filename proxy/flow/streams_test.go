package flow_test

import (
	"testing"

	"sipward/proxy/flow"
)

func TestStreams(t *testing.T) {
	var s flow.Streams
	if _, ok := s.Get(1); ok {
		t.Fatal("an empty table knows a key")
	}
	s.Put(1, 10)
	s.Put(1, 11)
	if conn, ok := s.Get(1); !ok || conn != 11 {
		t.Fatalf("got %d %v, want the newer connection", conn, ok)
	}
	s.Delete(1, 10) // the older connection closes later
	if _, ok := s.Get(1); !ok {
		t.Fatal("closing an older connection forgot the newer one")
	}
	s.Delete(1, 11)
	if _, ok := s.Get(1); ok {
		t.Fatal("still known after its connection closed")
	}
}

func TestStreamsCap(t *testing.T) {
	var s flow.Streams
	for i := range uint64(3 * flow.MaxStreams) {
		s.Put(i, i)
	}
	if n := s.Len(); n > flow.MaxStreams {
		t.Fatalf("%d entries, the cap is %d", n, flow.MaxStreams)
	}
	if conn, ok := s.Get(3*flow.MaxStreams - 1); !ok || conn != 3*flow.MaxStreams-1 {
		t.Fatal("the newest entry was not kept")
	}
}
