package certs_test

import (
	"testing"

	"go.uber.org/goleak"

	"sipward/proxy/certs/certstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, certstest.Endless()...) }
