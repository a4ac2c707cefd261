//go:build !race

package fs_test

// raceEnabled is that the race detector runs, which needs memory of its own.
const raceEnabled = false
