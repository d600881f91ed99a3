//go:build !race

package retransmit_test

const raceDetector = false
