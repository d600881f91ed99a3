//go:build race

package rate_test

// forgedSources is fewer here: the race detector makes each of them slow, and
// looks for something else.
const forgedSources = 500_000
