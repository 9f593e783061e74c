package llm

import (
	"context"
	"hash/fnv"
	"math"
	"strings"
	"unicode"
)

// HashedNgrams is the built-in embedder. It is no language model: it hashes a text's words, word
// pairs and character trigrams into 384 signed buckets and scales the result to length one. Texts
// that share words, stems or spellings come out close to each other; synonyms do not. It needs no
// key and no network, gives the same vector on every machine, and is what the knowledge base uses
// until an organization chooses a model.
type HashedNgrams struct{}

// HashedNgramsDim is the length of its vectors.
const HashedNgramsDim = 384

// Name returns "hashed-ngrams-384": hashed word and character n-grams.
func (HashedNgrams) Name() string { return "hashed-ngrams-384" }

// Dim returns HashedNgramsDim.
func (HashedNgrams) Dim() int { return HashedNgramsDim }

// Embed never fails except when ctx has ended. A text without a letter or digit gets a fixed vector of its own.
func (HashedNgrams) Embed(ctx context.Context, texts []string) ([][]float32, error) {
	out := make([][]float32, len(texts))
	for i, t := range texts {
		if ctx.Err() != nil {
			return nil, ctxError(ctx)
		}
		out[i] = hashedVector(t)
	}
	return out, nil
}

// Weights of the three kinds of features. Words carry the meaning, trigrams forgive spelling.
const (
	wordWeight    = 1.0
	pairWeight    = 0.5
	trigramWeight = 0.4
)

func hashedVector(text string) []float32 {
	counts := map[string]float64{}
	prev := ""
	for _, w := range Words(text) {
		if stopWords[w] {
			prev = ""
			continue
		}
		s := Stem(w)
		counts["w "+s] += wordWeight
		if prev != "" {
			counts["p "+prev+" "+s] += pairWeight
		}
		prev = s
		r := []rune("^" + s + "$")
		for i := 0; i+3 <= len(r); i++ {
			counts["c "+string(r[i:i+3])] += trigramWeight
		}
	}
	if len(counts) == 0 {
		counts["empty"] = 1
	}
	var v [HashedNgramsDim]float64
	for f, n := range counts {
		h := fnv.New64a()
		_, _ = h.Write([]byte(f))
		// FNV's low bits are weak for short inputs: mix before taking bucket and sign.
		x := h.Sum64()
		x ^= x >> 33
		x *= 0xff51afd7ed558ccd
		x ^= x >> 33
		weight := math.Sqrt(n) // the tenth mention says less than the first
		if strings.HasPrefix(f, "c ") {
			weight = trigramWeight * math.Sqrt(n/trigramWeight)
		}
		if x>>63 == 1 {
			weight = -weight
		}
		v[x%HashedNgramsDim] += weight
	}
	var sum float64
	for _, f := range v {
		sum += f * f
	}
	if sum == 0 { // every bucket canceled out: keep a direction
		v[0], sum = 1, 1
	}
	out := make([]float32, HashedNgramsDim)
	for i, f := range v {
		out[i] = float32(f / math.Sqrt(sum))
	}
	return out
}

// Words splits text into lower-case words of letters and digits.
func Words(text string) []string {
	return strings.FieldsFunc(strings.ToLower(text), func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) })
}

// Stem cuts the commonest English endings, so that "scheduling", "schedules" and "scheduled" meet.
// It is no full stemmer; what matters is that it is the same for documents and questions.
func Stem(w string) string {
	n := len(w)
	switch {
	case n > 5 && strings.HasSuffix(w, "ies"):
		return w[:n-3] + "i"
	case n > 6 && strings.HasSuffix(w, "ation"):
		return w[:n-5]
	case n > 6 && strings.HasSuffix(w, "ment"):
		return w[:n-4]
	case n > 5 && strings.HasSuffix(w, "ing"):
		return finish(w[:n-3])
	case n > 4 && strings.HasSuffix(w, "ed"):
		return finish(w[:n-2])
	case n > 4 && strings.HasSuffix(w, "es"):
		return finish(w[:n-2])
	case n > 3 && strings.HasSuffix(w, "s") && !strings.HasSuffix(w, "ss"):
		return finish(w[:n-1])
	}
	return finish(w)
}

// finish drops a last "e" and turns a last "y" into "i", so that stems of all forms agree.
func finish(w string) string {
	n := len(w)
	if n > 3 && w[n-1] == 'e' {
		return w[:n-1]
	}
	if n > 3 && w[n-1] == 'y' {
		return w[:n-1] + "i"
	}
	if n > 4 && w[n-1] == w[n-2] && !strings.ContainsRune("aeiouls", rune(w[n-1])) {
		return w[:n-1] // planned, plan
	}
	return w
}

// IsStopWord reports words that say nothing about what a text is about.
func IsStopWord(w string) bool { return stopWords[w] }

var stopWords = func() map[string]bool {
	m := map[string]bool{}
	for _, w := range strings.Fields(`a an the and or but if then of to in on at by for from with without into onto as is are was were be been being am
		do does did done have has had having will would can could shall should may might must i me my we us our you your he him his she her it its they them
		their this that these those there here what which who whom whose when where why how not no yes so than too very just also about any some all each
		please thanks thank hi hello hey ok okay get got let tell know want need like s t re ve ll d m don didn doesn isn aren`) {
		m[w] = true
	}
	return m
}()
