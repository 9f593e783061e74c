package rules

import (
	"math/rand/v2"
	"regexp/syntax"
	"strings"
	"testing"
	"unicode"

	"github.com/tandemhq/tandem/internal/proof"
)

// Whatever an expression matches has one of its words: texts are made from each expression, in random case and inside
// random sentences.
func TestWordsOfPatternsAreNeeded(t *testing.T) {
	t.Parallel()
	r := proof.Rand(t)
	texts, matched, quick := 0, 0, 0
	var corpus []string
	for _, p := range patterns {
		tree, err := syntax.Parse(p.re.String(), syntax.Perl)
		if err != nil {
			t.Fatal(err)
		}
		for range proof.Size(60, 2000) {
			var b strings.Builder
			write(r, &b, tree)
			s := b.String()
			if r.IntN(2) == 0 {
				s = "well, " + s + " then"
			}
			corpus = append(corpus, s)
		}
		if p.words != nil {
			quick++
		}
	}
	for _, p := range patterns {
		for range proof.Size(400, 20_000) {
			s := corpus[r.IntN(len(corpus))]
			texts++
			if p.re.MatchString(s) {
				matched++
				if !p.may(s) {
					t.Fatalf("%q matches, but has none of the words %q of %s", s, p.words, p.re)
				}
			}
		}
	}
	if quick < len(patterns)/2 || matched < texts/1000 {
		t.Errorf("%d of %d expressions have words, %d of %d texts matched: this proves little", quick, len(patterns), matched, texts)
	}
	t.Logf("%d expressions, %d of them with words; %d of %d texts matched", len(patterns), quick, matched, texts)
}

// write makes a text that re matches, more or less: word borders are left to chance.
func write(r *rand.Rand, b *strings.Builder, re *syntax.Regexp) {
	repeat := func(least, most int) {
		for range least + r.IntN(most-least+1) {
			write(r, b, re.Sub[0])
		}
	}
	switch re.Op {
	case syntax.OpLiteral:
		for _, c := range re.Rune {
			if r.IntN(4) == 0 {
				c = unicode.SimpleFold(c)
			}
			b.WriteRune(c)
		}
	case syntax.OpCharClass:
		i := 2 * r.IntN(len(re.Rune)/2)
		b.WriteRune(re.Rune[i] + rune(r.IntN(int(min(re.Rune[i+1]-re.Rune[i], 90))+1)))
	case syntax.OpAnyCharNotNL, syntax.OpAnyChar:
		b.WriteByte(" abcxyz"[r.IntN(7)])
	case syntax.OpCapture:
		write(r, b, re.Sub[0])
	case syntax.OpStar:
		repeat(0, 2)
	case syntax.OpPlus:
		repeat(1, 2)
	case syntax.OpQuest:
		repeat(0, 1)
	case syntax.OpRepeat:
		repeat(re.Min, max(re.Min, min(re.Min+2, re.Max)))
	case syntax.OpConcat:
		for _, sub := range re.Sub {
			write(r, b, sub)
		}
	case syntax.OpAlternate:
		write(r, b, re.Sub[r.IntN(len(re.Sub))])
	}
}

// BenchmarkTurn is a long first message, as the model reads it before it says anything.
func BenchmarkFindings(b *testing.B) {
	text := strings.Repeat("We need a price for our team. How do you handle holidays? I want to start soon. ", 20)
	for b.Loop() {
		for _, s := range sentences(text) {
			handoffFor(s)
			isQuestion(s)
			headcounts(s)
			whoDecides(s)
			needRE.MatchString(s)
		}
	}
}
