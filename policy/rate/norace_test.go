//go:build !race

package rate_test

// forgedSources is how many forged sources the flood tests send.
const forgedSources = 5_000_000
