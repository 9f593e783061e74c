package rules

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/tandemhq/tandem/agents/llm"
)

// view is a request as the rules read it.
type view struct {
	facts llm.Facts
	now   time.Time
	tools map[string]shape

	text   string   // what the customer wrote since our last answer
	parts  []string // its sentences
	claims []string // those that can be evidence of something
	past   []string // the customer's earlier sentences
	ours   []string // what our side wrote, oldest first
	asked  string   // the field that our last message asked for, or ""
	counts map[string]int
	misses int // questions we had to leave open before this turn

	steps []step // what this turn has done so far
}

// step is one tool call of this turn with what came of it.
type step struct {
	call   llm.Call
	result string
	failed bool
}

func look(req llm.Request) *view {
	v := &view{facts: req.Facts, now: req.Facts.Now, tools: shapes(req.Tools), counts: map[string]int{}}
	if v.now.IsZero() {
		v.now = time.Now().UTC()
	}
	if v.facts.Currency == "" {
		v.facts.Currency = "USD"
	}
	// The turn's own calls are at the end, after the customer's last message.
	start := len(req.Messages)
	for start > 0 {
		m := req.Messages[start-1]
		if m.Role == llm.Tool || m.Role == llm.Assistant && len(m.Calls) > 0 {
			start--
			continue
		}
		break
	}
	v.readSteps(req.Messages[start:])
	var burst []string
	for _, m := range req.Messages[:start] {
		said, theirs := spoken(m)
		switch {
		case said == "":
		case theirs:
			burst = append(burst, said)
		default:
			v.ours = append(v.ours, said)
			v.past = append(v.past, sentences(strings.Join(burst, "\n"))...)
			burst = nil
		}
	}
	v.text = strings.TrimSpace(strings.Join(burst, "\n"))
	if len(v.text) > 8000 { // the rules read a long message's beginning
		v.text = strings.ToValidUTF8(v.text[:8000], "")
	}
	v.parts = once(sentences(v.text))
	for _, s := range v.parts {
		if !orderRE.MatchString(s) {
			v.claims = append(v.claims, s)
		}
	}
	v.readOurs()
	return v
}

// spoken returns what a message says in the conversation, and whether the customer said it. Notes,
// records and tool results are not part of the conversation.
func spoken(m llm.Message) (text string, theirs bool) {
	switch m.Role {
	case llm.User:
		switch m.From {
		case llm.FromContact, "":
			return m.Text, true
		case llm.FromHuman, llm.FromAI:
			return m.Text, false
		}
	case llm.Assistant:
		for _, c := range m.Calls {
			var a struct {
				Text string `json:"text"`
				Line string `json:"customer_line"`
			}
			switch {
			case json.Unmarshal(c.Args, &a) != nil:
			case c.Name == "reply":
				return a.Text, false
			case c.Name == "request_handoff":
				return a.Line, false
			}
		}
		if len(m.Calls) == 0 {
			return m.Text, false
		}
	}
	return "", false
}

func (v *view) readSteps(msgs []llm.Message) {
	at := map[string]int{}
	for _, m := range msgs {
		for _, c := range m.Calls {
			at[c.ID] = len(v.steps)
			v.steps = append(v.steps, step{call: c})
		}
		if i, ok := at[m.CallID]; ok && m.Role == llm.Tool {
			v.steps[i].result = m.Text
			v.steps[i].failed = failed(m.Text)
		}
	}
}

var errorRE = rx(`^\s*(?:error|refused|failed|not allowed|forbidden|invalid|conflict|the tool failed)\b`)

// failed reads a tool result: an object with an error, or a sentence that begins like one.
func failed(result string) bool {
	var r struct {
		Error json.RawMessage `json:"error"`
		OK    *bool           `json:"ok"`
	}
	if json.Unmarshal([]byte(result), &r) == nil {
		return len(r.Error) > 0 && string(r.Error) != "null" && string(r.Error) != `""` || r.OK != nil && !*r.OK
	}
	return errorRE.MatchString(result)
}

// readOurs finds in our own messages what was asked and what stayed open.
func (v *view) readOurs() {
	for i, text := range v.ours {
		for field := range questions {
			if v.asks(text, field) {
				v.counts[field]++
				if i == len(v.ours)-1 {
					v.asked = field
				}
			}
		}
		if strings.Contains(text, sayMiss) || strings.Contains(text, sayMissPart) {
			v.misses++
		}
	}
	v.misses = max(v.misses, v.facts.Unanswered)
}

func (v *view) asks(text, field string) bool {
	for _, q := range v.facts.Playbook {
		if q.Field == field && q.Text != "" && strings.Contains(text, q.Text) {
			return true
		}
	}
	return strings.Contains(text, questions[field][0]) || strings.Contains(text, questions[field][1])
}

// question returns how to ask for field next, or "" when it was asked often enough.
func (v *view) question(field string) string {
	n := v.counts[field]
	if n >= askAtMost {
		return ""
	}
	own := 0
	for _, q := range v.facts.Playbook {
		if q.Field == field && q.Text != "" {
			if own == n {
				return q.Text
			}
			own++
		}
	}
	return questions[field][n]
}

// done returns the first step of this turn with the named tool.
func (v *view) done(tool string) (step, bool) {
	for _, s := range v.steps {
		if s.call.Name == tool {
			return s, true
		}
	}
	return step{}, false
}

func (v *view) offers(tool string) bool { _, ok := v.tools[tool]; return ok }

var (
	sentenceEnd = regexp.MustCompile(`([.!?…]+["')\]]*)(?:\s+|$)|\n+`)
	shortForm   = rx(`(?:^|\s)(?:e\.g|i\.e|approx|ca|dr|mr|mrs|ms|no|st|vs|etc|incl|max|min|p\.a|[a-z])\.$`)
)

// sentences splits text at sentence ends and line ends, and trims each.
func sentences(text string) []string {
	var out []string
	from := 0
	for _, m := range sentenceEnd.FindAllStringIndex(text, -1) {
		s := strings.TrimSpace(text[from:m[1]])
		if !strings.Contains(text[m[0]:m[1]], "\n") && shortForm.MatchString(s) && m[1] < len(text) {
			continue
		}
		if s != "" {
			out = append(out, s)
		}
		from = m[1]
	}
	if s := strings.TrimSpace(text[from:]); s != "" {
		out = append(out, s)
	}
	return out
}

// once drops sentences that were said before: somebody who repeats himself says nothing new, and a machine may do so
// without end.
func once(all []string) []string {
	seen := make(map[string]bool, len(all))
	return slices.DeleteFunc(all, func(s string) bool {
		was := seen[s]
		seen[s] = true
		return was
	})
}

// isQuestion reports whether a sentence asks for something that could stand in a document.
func isQuestion(s string) bool {
	if smallTalk.MatchString(s) || identityRE.MatchString(s) {
		return false
	}
	return strings.HasSuffix(strings.TrimRight(s, `"')] `), "?") || questionRE.MatchString(s)
}

// foreign reports whether the customer writes in a language these rules do not read.
func (v *view) foreign() bool {
	letters, other := 0, 0
	for _, r := range v.text {
		switch {
		case r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= 0xc0 && r < 0x250:
			letters++
		case r >= 0x370 && r != '’' && r < 0x2000, r >= 0x2e80 && r < 0xe000:
			letters++
			other++
		}
	}
	if letters > 3 && other*10 > letters*4 {
		return true
	}
	strange, english := 0, 0
	for _, w := range llm.Words(v.text) {
		if foreignWords[w] {
			strange++
		} else if llm.IsStopWord(w) {
			english++
		}
	}
	return strange >= 3 && strange > english
}

var foreignWords = func() map[string]bool {
	m := map[string]bool{}
	for _, w := range strings.Fields(`und der die das ich wir nicht haben brauchen ist für mit eine einen bitte sie können suchen auch oder wie
		le les nous est pour vous avec une des je avons besoin merci bonjour sommes notre votre
		el los las que para nosotros necesitamos una con por favor gracias somos tenemos nuestro
		il per che siamo abbiamo grazie nostro della di non cerchiamo
		não nós precisamos temos obrigado uma nossa het een wij niet hebben voor met zijn nie się jest dla mamy`) {
		m[w] = true
	}
	return m
}()
