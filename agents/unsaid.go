package agents

import (
	"maps"
	"regexp"
	"strings"
)

// wordRun is how many words in a row, the same as in a text that is not for customers, are no accident.
const wordRun = 8

var wordRE = regexp.MustCompile(`[\p{L}\p{N}]+`)

// wordRuns are all runs of wordRun words of a text.
func wordRuns(text string) map[string]bool {
	words := wordRE.FindAllString(strings.ToLower(text), -1)
	runs := map[string]bool{}
	for i := 0; i+wordRun <= len(words); i++ {
		runs[strings.Join(words[i:i+wordRun], " ")] = true
	}
	return runs
}

var ruleRuns = wordRuns(instructions)

// private are the runs of words that must not be said: those of our instructions and of notes, but not what the
// contact has said or the knowledge says as well.
func private(notes []string, said string) map[string]bool {
	runs := maps.Clone(ruleRuns)
	known := " " + strings.Join(wordRE.FindAllString(strings.ToLower(said), -1), " ") + " "
	for _, n := range notes {
		for run := range wordRuns(n) {
			if !strings.Contains(known, " "+run+" ") {
				runs[run] = true
			}
		}
	}
	return runs
}

// unsaid takes private runs of words out of a text.
func unsaid(text string, runs map[string]bool) string {
	at := wordRE.FindAllStringIndex(text, -1)
	if len(at) < wordRun {
		return text
	}
	words := make([]string, len(at))
	for i, a := range at {
		words[i] = strings.ToLower(text[a[0]:a[1]])
	}
	var b strings.Builder
	from := 0
	for i := 0; i+wordRun <= len(words); {
		if !runs[strings.Join(words[i:i+wordRun], " ")] {
			i++
			continue
		}
		end := i + wordRun
		for end < len(words) && runs[strings.Join(words[end-wordRun+1:end+1], " ")] {
			end++
		}
		b.WriteString(text[from:at[i][0]] + privateRemoved)
		from, i = at[end-1][1], end
	}
	return b.String() + text[from:]
}
