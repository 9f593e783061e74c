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

// sequences draws what one check plays.
func sequences(t *rapid.T, codes int) [][]op {
	one := rapid.Custom(func(t *rapid.T) op {
		return op{
			Code: uint8(rapid.IntRange(0, codes-1).Draw(t, "code")), A: rapid.Byte().Draw(t, "a"), B: rapid.Byte().Draw(t, "b"), C: rapid.Byte().Draw(t, "c"),
		}
	})
	return rapid.SliceOfN(rapid.SliceOfN(one, steps, steps), perCheck, perCheck).Draw(t, "sequences")
}
