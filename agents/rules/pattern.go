package rules

import (
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
)

// pattern is an expression that ignores case, with the words without which it cannot match: looking for a word costs a
// hundredth of what the expression does, and most sentences have none of them.
type pattern struct {
	re    *regexp.Regexp
	words []string // in lower case; nil: it has to be tried on everything
}

// rx compiles an expression that ignores case.
func rx(expr string) *pattern {
	expr = `(?i)` + expr
	p := &pattern{re: regexp.MustCompile(expr)}
	if tree, err := syntax.Parse(expr, syntax.Perl); err == nil { // regexp has parsed the same
		p.words = needed(tree.Simplify())
	}
	patterns = append(patterns, p)
	return p
}

// patterns are all there are, for the test that holds their words against them.
var patterns []*pattern

// may reports whether the expression could match.
func (p *pattern) may(s string) bool {
	if p.words == nil {
		return true
	}
	low := strings.ToLower(s)
	for _, w := range p.words {
		if strings.Contains(low, w) {
			return true
		}
	}
	return strings.ContainsAny(low, oddCase)
}

// oddCase are the characters that an expression takes for another letter although their lower case is not that letter:
// the long s and the Kelvin sign.
const oddCase = "ſK"

// MatchString is as of regexp.Regexp; so are those that follow.
func (p *pattern) MatchString(s string) bool { return p.may(s) && p.re.MatchString(s) }

func (p *pattern) FindAllString(s string, n int) []string {
	if !p.may(s) {
		return nil
	}
	return p.re.FindAllString(s, n)
}

func (p *pattern) FindStringSubmatch(s string) []string {
	if !p.may(s) {
		return nil
	}
	return p.re.FindStringSubmatch(s)
}

func (p *pattern) FindStringSubmatchIndex(s string) []int {
	if !p.may(s) {
		return nil
	}
	return p.re.FindStringSubmatchIndex(s)
}

func (p *pattern) FindAllStringSubmatchIndex(s string, n int) [][]int {
	if !p.may(s) {
		return nil
	}
	return p.re.FindAllStringSubmatchIndex(s, n)
}

func (p *pattern) ReplaceAllString(s, with string) string {
	if !p.may(s) {
		return s
	}
	return p.re.ReplaceAllString(s, with)
}

const (
	shortWord = 2   // letters below which a word is in too many sentences to be worth the look
	mostWords = 250 // a longer list costs as much as the expression
)

// needed returns words of which at least one is in every text that re matches, or nil when there are none to name.
func needed(re *syntax.Regexp) []string {
	switch re.Op {
	case syntax.OpLiteral:
		if len(re.Rune) >= shortWord {
			return []string{strings.ToLower(string(re.Rune))}
		}
	case syntax.OpCapture, syntax.OpPlus:
		return needed(re.Sub[0])
	case syntax.OpRepeat:
		if re.Min > 0 {
			return needed(re.Sub[0])
		}
	case syntax.OpConcat:
		var best []string
		for _, sub := range re.Sub {
			if w := needed(sub); w != nil && (best == nil || shortest(w) > shortest(best) || shortest(w) == shortest(best) && len(w) < len(best)) {
				best = w
			}
		}
		return best
	case syntax.OpAlternate:
		var all []string
		for _, sub := range re.Sub {
			w := needed(sub)
			if w == nil {
				return nil
			}
			all = append(all, w...)
		}
		slices.Sort(all)
		if all = slices.Compact(all); len(all) <= mostWords {
			return all
		}
	}
	return nil
}

func shortest(words []string) int {
	n := len(words[0])
	for _, w := range words {
		n = min(n, len(w))
	}
	return n
}
