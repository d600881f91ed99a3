package proxy

import (
	"bytes"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"sipward/proxy/flow"
)

func TestLastMark(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		user := []byte(rapid.StringMatching(`[a~]{0,12}`).Draw(t, "user"))
		if got, want := lastMark(user), bytes.LastIndexByte(user, aliasMark); got != want {
			t.Fatalf("lastMark(%q) = %d, want %d", user, got, want)
		}
	})
	token := strings.Repeat("A", flow.MaxText)
	if got := lastMark([]byte("~a~" + token)); got != 2 {
		t.Errorf("before the longest token: %d", got)
	}
	if got := lastMark([]byte("~a~" + token + "A")); got != -1 {
		t.Errorf("before more than a token: %d", got)
	}
}
