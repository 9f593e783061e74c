package agents

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/tandemhq/tandem"
)

// What tells a machine from a person. Either sign alone, in several rounds on end, is enough; a person who
// pastes one text or repeats one sentence does neither.
const (
	fastChars   = 15.0 // characters a second, from our message to theirs; the fastest typists write 12
	fastRounds  = 3    // rounds over which speed is measured
	fastAtLeast = 200  // characters in these rounds: less says nothing of speed
	sameAtLeast = 8    // characters of a text whose repetition counts: people do write "yes" three times
	sameWords   = 8    // words from which texts are compared word by word, because an automatic answer may hold a number or a date
	sameShare   = 0.9  // share of the words
	roundsRead  = 40   // messages
)

// The newest messages, newest first. What people say ends the stretch that counts, and so does a handoff: the AI member
// begins anew when it gets the conversation back.
var sqlRounds = `
SELECT m.direction, m.sender_kind, m.handoff_id IS NOT NULL AS handoff, left(m.text, 4000) AS text, coalesce(m.sent_at, m.created_at) AS at
FROM messages m
WHERE m.org_id = @org AND m.conversation_id = @conversation AND m.kind = 'message' AND m.status NOT IN ('cancelled', 'draft')
ORDER BY m.seq DESC LIMIT ` + strconv.Itoa(roundsRead)

type heard struct {
	Direction, SenderKind string
	Handoff               bool
	Text                  string
	At                    time.Time
}

// notMachine is a breach when whoever writes has shown to be a machine for as many rounds as are allowed. Two AI
// members that answer each other, or an AI member and an automatic answer, stop here.
func (b *budget) notMachine(said []heard) error {
	if b.MachineRounds < 0 {
		return nil
	}
	if n := machineRounds(said); n >= b.MachineRounds {
		return &breach{fmt.Sprintf("a machine seems to be writing: %d rounds on end were answered faster than a person types, or with the same words", n)}
	}
	return nil
}

// round is what came after one message of ours.
type round struct {
	text    string
	chars   int
	took    time.Duration
	before  int // messages of ours that came before it
	machine bool
}

// machineRounds counts the rounds, up to the newest one without a gap, that a machine seems to have written. said
// is newest first.
func machineRounds(said []heard) int {
	for i, m := range said {
		if m.Direction == "outbound" && (m.SenderKind != string(tandem.AI) || m.Handoff) {
			said = said[:i]
			break
		}
	}
	var rounds []round
	var before []string // what we said, and they before their first round
	var ours *heard
	open := false // the last message was theirs
	for i := len(said) - 1; i >= 0; i-- {
		m := said[i]
		switch {
		case m.Direction == "outbound":
			before = append(before, m.Text)
			ours, open = &said[i], false
		case ours == nil:
			before = append(before, m.Text)
		case open: // the burst goes on
			r := &rounds[len(rounds)-1]
			r.text, r.chars, r.took = r.text+"\n"+m.Text, r.chars+utf8.RuneCountInString(m.Text), m.At.Sub(ours.At)
		default:
			rounds = append(rounds, round{text: m.Text, chars: utf8.RuneCountInString(m.Text), took: m.At.Sub(ours.At), before: len(before)})
			open = true
		}
	}
	for i := range rounds {
		r := &rounds[i]
		for _, b := range before[:r.before] {
			r.machine = r.machine || same(r.text, b)
		}
		for j := range rounds[:i] {
			if same(r.text, rounds[j].text) {
				r.machine, rounds[j].machine = true, true
			}
		}
	}
	for i := fastRounds - 1; i < len(rounds); i++ {
		chars, took := 0, time.Duration(0)
		for _, r := range rounds[i-fastRounds+1 : i+1] {
			chars, took = chars+r.chars, took+max(r.took, 0)
		}
		if chars >= fastAtLeast && float64(chars) > fastChars*took.Seconds() {
			for j := range fastRounds {
				rounds[i-j].machine = true
			}
		}
	}
	n := 0
	for i := len(rounds) - 1; i >= 0 && rounds[i].machine; i-- {
		n++
	}
	return n
}

// same reports whether two texts say the same but for case, punctuation and a few words.
func same(a, b string) bool {
	wa, wb := plainWords(a), plainWords(b)
	if ja, jb := strings.Join(wa, " "), strings.Join(wb, " "); ja == jb {
		return len(ja) >= sameAtLeast
	}
	if len(wa) < sameWords || len(wb) < sameWords {
		return false
	}
	seen := map[string]bool{}
	for _, w := range wa {
		seen[w] = true
	}
	all, both := len(seen), 0
	counted := map[string]bool{}
	for _, w := range wb {
		switch {
		case counted[w]:
		case seen[w]:
			both++
		default:
			all++
		}
		counted[w] = true
	}
	return float64(both) >= sameShare*float64(all)
}

func plainWords(s string) []string {
	return strings.FieldsFunc(strings.ToLower(s), func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsNumber(r) })
}
