package notify_test

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(victimDir); dir != "" { // a test runs this to kill it
		victim(dir, os.Getenv(victimURL))
	}
	goleak.VerifyTestMain(m)
}
