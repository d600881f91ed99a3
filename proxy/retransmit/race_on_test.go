//go:build race

package retransmit_test

// raceDetector: sync.Pool throws a part of what it is given away.
const raceDetector = true
