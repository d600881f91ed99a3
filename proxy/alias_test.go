package proxy

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"
)

func TestLastMark(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		user := []byte(rapid.StringMatching(`[a~]{0,12}`).Draw(t, "user"))
		if got, want := lastMark(user), bytes.LastIndexByte(user, aliasMark); got != want {
			t.Fatalf("lastMark(%q) = %d, want %d", user, got, want)
		}
	})
}
