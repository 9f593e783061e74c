package bench

import (
	"hash/fnv"
	"math/rand/v2"
	"strings"
)

// Rand is a source of randomness of its own for what, that begins at the run's seed.
func (e *Env) Rand(what string) *rand.Rand {
	h := fnv.New64a()
	h.Write([]byte(what))
	return rand.New(rand.NewPCG(e.Seed, h.Sum64()))
}

// words are what texts are made of: few are frequent, as in a language.
var words = func() []string {
	r := rand.New(rand.NewPCG(1, 2))
	list := make([]string, 20_000)
	for i := range list {
		b := make([]byte, 3+r.IntN(7))
		for j := range b {
			b[j] = byte('a' + r.IntN(26))
		}
		list[i] = string(b)
	}
	return list
}()

// Text is n bytes of lower-case words.
func Text(r *rand.Rand, n int) string {
	var b strings.Builder
	for b.Len() < n {
		x := r.Float64()
		b.WriteString(words[int(x*x*x*float64(len(words)))])
		b.WriteByte(' ')
	}
	return b.String()[:n-1] + "." // no space at the end, which a channel would trim
}
