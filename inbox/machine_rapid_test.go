package inbox

import (
	"flag"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/tandemhq/tandem/internal/proof"
)

const (
	perCheck = 4  // sequences that run side by side in one check of rapid, each in an organization of its own
	steps    = 50 // of each sequence
)

var rapidSeed uint64

// rapid takes its settings from flags alone, and its seed at the beginning of each check.
func TestMain(m *testing.M) {
	flag.Parse()
	rapidSeed = rand.Uint64()>>2 + 1
	if text := os.Getenv(proof.EnvSeed); text != "" {
		if n, err := strconv.ParseUint(text, 10, 63); err == nil && n > 0 {
			rapidSeed = n
		}
	}
	given := map[string]bool{}
	flag.Visit(func(f *flag.Flag) { given[f.Name] = true })
	for name, value := range map[string]string{
		"rapid.checks": strconv.Itoa(proof.Size(3, 500)), "rapid.seed": strconv.FormatUint(rapidSeed, 10), "rapid.nofailfile": "true", "rapid.shrinktime": "20s",
	} {
		if !given[name] {
			_ = flag.Set(name, value)
		}
	}
	goleak.VerifyTestMain(m)
}

// op is one step as rapid draws it; what it means depends on where the sequence stands.
type op struct{ Code, A, B, C uint8 }

// bits draws a number of n bits, every one as likely as any other: rapid's own numbers are small
// ones for the most part, which would choose the same few steps again and again.
func bits(t *rapid.T, n int) (v int) {
	for range n {
		v <<= 1
		if rapid.Bool().Draw(t, "bit") {
			v |= 1
		}
	}
	return v
}

// sequences draws what one check plays.
func sequences(t *rapid.T, codes int) [][]op {
	one := rapid.Custom(func(t *rapid.T) op {
		return op{Code: uint8(bits(t, 8) % codes), A: uint8(bits(t, 8)), B: uint8(bits(t, 8)), C: uint8(bits(t, 8))}
	})
	return rapid.SliceOfN(rapid.SliceOfN(one, steps, steps), perCheck, perCheck).Draw(t, "sequences")
}
