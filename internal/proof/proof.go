// Package proof is how a test says what it proves. A test that stands for a promise of docs/promises.md runs at one of
// two sizes: a small one with every `make test`, and the promised one under `make prove`. It takes its randomness from a
// seed that is printed, and logs a figure that begins with the promise's id.
package proof

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
)

// Environment variables that `make prove` sets.
const (
	EnvFull = "TANDEM_PROVE"      // not empty: tests run at the promised size
	EnvSeed = "TANDEM_PROVE_SEED" // a decimal number: the seed of every test
)

// Full says whether tests run at the promised size.
func Full() bool { return os.Getenv(EnvFull) != "" }

// Size is full at the promised size and small otherwise.
func Size[N any](small, full N) N {
	if Full() {
		return full
	}
	return small
}

// Seed returns the seed of this test's randomness and logs it, so that a run can be repeated with EnvSeed.
func Seed(t testing.TB) uint64 {
	t.Helper()
	seed := rand.Uint64() >> 1 // fits rapid's and everybody's signed numbers
	if text := os.Getenv(EnvSeed); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 63); err != nil {
			t.Fatalf("%s is no number: %v", EnvSeed, err)
		}
	}
	t.Logf("seed: %d", seed)
	return seed
}

// Rand is a source of randomness that begins at Seed.
func Rand(t testing.TB) *rand.Rand {
	t.Helper()
	seed := Seed(t)
	return rand.New(rand.NewPCG(seed, seed))
}

// Figure logs what a test measured for a goal, such as "REL-3". `make test` prints it, `make prove` puts it in its table.
func Figure(t testing.TB, goal, format string, args ...any) {
	t.Helper()
	t.Logf("figure: %s: %s", goal, fmt.Sprintf(format, args...))
}

// Missed logs why a goal's figure was not reached, with the figure, without failing the test: the correctness that the
// test checks held, a number beside it did not. `make prove` shows the goal as not held.
func Missed(t testing.TB, goal, format string, args ...any) {
	t.Helper()
	t.Logf("figure: %s: MISSED: %s", goal, fmt.Sprintf(format, args...))
}
