package rules

import (
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"

	"github.com/tandemhq/tandem/agents/llm"
)

// passage is one search result.
type passage struct {
	Title string  `json:"title"`
	Text  string  `json:"text"`
	Score float64 `json:"score"`
	Chunk string  `json:"chunk_id"`
}

// passages reads the result of search_knowledge.
func passages(result string) []passage {
	var r struct {
		Results []passage `json:"results"`
	}
	if json.Unmarshal([]byte(result), &r) != nil {
		return nil
	}
	return r.Results
}

// found is an answer taken word for word from the knowledge base.
type found struct {
	text    string
	title   string
	chunks  []string
	quality float64 // share of the question's weight it covers, 0 to 1
}

func (f found) String() string {
	return f.text + " " + fmt.Sprintf(saySource, f.title)
}

// concepts let a question meet an answer that uses other words. Each line is one concept:
// the ways to ask for it, and the words that answers use.
// kind marks the concepts that say what kind of answer is wanted; "!" the words that are that kind.
var concepts = []struct {
	ask   *pattern
	words []string
	kind  bool
}{
	{ask: rx(`\b(?:how much|pric\w*|costs?|charg\w*|fees?|expensive|rates?|tariffs?|what do (?:you|we|i) pay)\b`), words: []string{"price", "pricing", "cost", "costs", "charge", "fee", "rate", "pay", "free", "euro!", "euros!", "dollar!", "dollars!", "usd!", "eur!", "€!", "$!", "£!"}, kind: true},
	{ask: rx(`\b(?:how long|how quickly|how fast|how soon|take to)\b`), words: []string{"minute", "minutes", "hour", "hours", "day", "days", "week", "weeks", "month", "months", "takes", "duration"}, kind: true},
	{ask: rx(`\b(?:integrat\w*|sync\w*|connect\w*|import\w*|work(?:s)? with|compatible|plug-?in|interface|api)\b`), words: []string{"integration", "integrates", "sync", "synced", "connect", "connector", "connects", "import", "imports", "export", "compatible", "interface", "api"}},
	{ask: rx(`\b(?:secur\w*|safe\w*|encrypt\w*|gdpr|privacy|protect\w*|complian\w*|certif\w*)\b`), words: []string{"secure", "security", "encrypted", "encryption", "gdpr", "privacy", "protected", "compliance", "compliant", "certified", "certificate"}},
	{ask: rx(`\b(?:host\w*|stored?|servers?|data ?cent(?:er|re)s?|where do you (?:keep|store))\b`), words: []string{"hosted", "stored", "hosting", "center", "centre", "server", "servers", "region"}},
	{ask: rx(`\b(?:trial|try|test|demo|pilot)\b`), words: []string{"trial", "try", "test", "demo", "pilot", "free"}},
	{ask: rx(`\b(?:cancel\w*|terminat\w*|quit|leave|notice)\b`), words: []string{"cancel", "cancellation", "terminate", "notice", "leave"}},
	{ask: rx(`\b(?:support|help\w*|contact|hotline|reach you)\b`), words: []string{"support", "help", "hotline", "helpdesk", "phone", "email"}},
	{ask: rx(`\b(?:mobile|app|phone|smartphone|ios|android|iphone)\b`), words: []string{"mobile", "app", "apps", "phone", "smartphone", "ios", "android", "iphone"}},
	{ask: rx(`\b(?:employees?|staff|users?|people|workers?|team|seats?)\b`), words: []string{"employee", "employees", "staff", "user", "users", "people", "workers", "team", "teams", "seat"}},
	{ask: rx(`\b(?:locations?|sites?|branch\w*|offices?|stores?)\b`), words: []string{"location", "locations", "site", "sites", "branch", "branches", "office", "offices", "store", "stores"}},
	{ask: rx(`\b(?:setup|set up|onboard\w*|implement\w*|get(?:ting)? started|start|migrat\w*|install\w*)\b`), words: []string{"setup", "onboarding", "implementation", "start", "started", "migration", "migrate", "install"}},
	{ask: rx(`\b(?:languages?|translat\w*|multilingual)\b`), words: []string{"language", "languages", "translated", "english", "german", "french", "spanish"}},
	{ask: rx(`\b(?:train\w*|learn\w*|webinar)\b`), words: []string{"training", "learn", "webinar", "course", "tutorial"}},
	{ask: rx(`\b(?:minimum|limit\w*|maximum|at least|how many)\b`), words: []string{"minimum", "maximum", "limit", "least", "most", "unlimited"}},
	{ask: rx(`\b(?:pay(?:ment)?s?|invoices?|bill\w*|credit card)\b`), words: []string{"payment", "invoice", "billed", "billing", "card", "pay"}},
}

// dull words are asked with, seldom about.
var dull = func() map[string]bool {
	m := map[string]bool{}
	for _, w := range strings.Fields("offer provide use using used work works possible able available company product software tool tools system solution exactly really actually " +
		"hello hi hey dear morning afternoon evening thank thanks please send share tell kindly interested " +
		"question questions kind type way thing things question much many long make give show see come look take need also currently already new good best handle deal include included feature features everything anything something somewhere size sort number amount total case situation") {
		m[llm.Stem(w)] = true
	}
	return m
}()

// term is one thing a question is about.
type term struct {
	stems  map[string]float64 // stem -> how well it stands for the term
	weight float64
	kind   bool // says what kind of answer is wanted, however common its words are
}

func terms(question string) []term {
	var out []term
	taken := map[string]bool{}
	low := strings.ToLower(question)
	for _, c := range concepts {
		matches := c.ask.FindAllString(low, 10)
		if matches == nil {
			continue
		}
		t := term{stems: map[string]float64{}, weight: 1}
		for _, w := range c.words {
			if plain, strong := strings.CutSuffix(w, "!"); strong {
				t.stems[llm.Stem(plain)] = 1
			} else {
				t.stems[llm.Stem(w)] = max(t.stems[llm.Stem(w)], 0.6)
			}
		}
		if c.kind {
			t.kind, t.weight = true, 1.5
			taken[llm.Stem("take")], taken[llm.Stem("last")] = true, true
		}
		for _, w := range llm.Words(strings.Join(matches, " ")) {
			taken[llm.Stem(w)] = true
			if !llm.IsStopWord(w) {
				t.stems[llm.Stem(w)] = 1
			}
		}
		out = append(out, t)
	}
	for _, w := range llm.Words(question) {
		s := llm.Stem(w)
		if llm.IsStopWord(w) || taken[s] || len(w) < 2 {
			continue
		}
		taken[s] = true
		t := term{stems: map[string]float64{s: 1}, weight: 1}
		if dull[s] || w[0] >= '0' && w[0] <= '9' {
			t.weight = 0.25
		}
		out = append(out, t)
	}
	return out
}

// candidate is one sentence of a passage that could be quoted.
type candidate struct {
	text    string
	stems   map[string]bool
	context map[string]bool // title and heading
	passage int
	place   int
	score   float64
}

// answer picks the sentences that answer the question best, or reports false.
func answer(question string, from []passage) (found, bool) {
	ts := terms(question)
	if len(ts) == 0 || len(from) == 0 {
		return found{}, false
	}
	cands := candidates(from)
	if len(cands) == 0 {
		return found{}, false
	}
	// A word that every sentence has says less than one that few have, and one that most passages
	// have is the name of the product.
	for i := range ts {
		if ts[i].kind || ts[i].weight < 1 {
			continue
		}
		n, in := 0, map[int]bool{}
		for j := range cands {
			if ts[i].hit(cands[j].stems) > 0 {
				n++
				in[cands[j].passage] = true
			}
		}
		most := 2.0
		if n == 0 {
			most = 2.6 // nothing speaks of it: most likely there is no answer
		}
		ts[i].weight *= math.Min(most, 0.5+math.Log(float64(len(cands)+1)/float64(n+1)))
		if len(ts) > 1 && len(from) > 2 && 2*len(in) >= len(from) {
			ts[i].weight *= 0.2
		}
	}
	total := 0.0
	for _, t := range ts {
		total += t.weight
	}
	best := -1
	for i := range cands {
		c := &cands[i]
		for _, t := range ts {
			c.score += t.weight * max(t.hit(c.stems), 0.7*t.hit(c.context))
		}
		c.score = c.score / total * (1 + 0.02*math.Min(from[c.passage].Score, 1)) // the search decides between equals
		if best < 0 || c.score > cands[best].score {
			best = i
		}
	}
	top := cands[best]
	own := 0.0
	for _, t := range ts {
		own += t.weight * t.hit(top.stems)
	}
	if top.score < goodMatch || own == 0 {
		return found{}, false
	}
	f := found{text: top.text, title: from[top.passage].Title, chunks: []string{from[top.passage].Chunk}, quality: math.Min(top.score, 1)}
	// A second sentence from the same passage, if it says more about the question.
	if next, ok := second(cands, best, ts); ok && len(f.text)+len(next.text) < 420 {
		if next.place < top.place {
			f.text = next.text + " " + f.text
		} else {
			f.text += " " + next.text
		}
	}
	return f, true
}

func (t term) hit(stems map[string]bool) float64 {
	best := 0.0
	for s, w := range t.stems {
		if stems[s] {
			best = max(best, w)
		}
	}
	return best
}

func second(cands []candidate, best int, ts []term) (candidate, bool) {
	top := cands[best]
	pick, gain := -1, 0.0
	for i, c := range cands {
		if i == best || c.passage != top.passage {
			continue
		}
		g := 0.0
		for _, t := range ts {
			h := t.hit(c.stems)
			if h > t.hit(top.stems) {
				g += t.weight // says what the first does not
			} else if h > 0 && c.place == top.place+1 {
				g += 0.4 * t.weight
			}
		}
		if g > gain {
			pick, gain = i, g
		}
	}
	if pick < 0 || gain < 0.4 {
		return candidate{}, false
	}
	return cands[pick], true
}

func candidates(from []passage) []candidate {
	var out []candidate
	for p, ps := range from {
		heading := ps.Title
		for i, line := range strings.Split(tidy(ps.Text), "\n") {
			for j, s := range sentences(line) {
				words := llm.Words(s)
				ended := strings.ContainsAny(s[len(s)-1:], ".!…)")
				if strings.HasSuffix(s, "?") || !ended && len(words) < 6 {
					heading = ps.Title + " " + s // a heading, or the question of a list of questions and answers
					continue
				}
				if len(s) > 400 || len(words) < 2 {
					continue
				}
				out = append(out, candidate{text: s, stems: stemSet(words, s), context: stemSet(llm.Words(heading), ""), passage: p, place: i*1000 + j})
			}
		}
		if len(out) > 400 {
			break
		}
	}
	return out
}

func stemSet(words []string, raw string) map[string]bool {
	m := make(map[string]bool, len(words))
	for _, w := range words {
		m[llm.Stem(w)] = true
	}
	for _, sign := range []string{"€", "$", "£"} {
		if strings.Contains(raw, sign) {
			m[sign] = true
		}
	}
	return m
}

var (
	mdLink   = regexp.MustCompile(`!?\[([^\]]*)\]\([^)]*\)`)
	htmlTag  = regexp.MustCompile(`<[^>]{1,200}>`)
	mdMark   = regexp.MustCompile("(?m)^\\s*(?:#{1,6}|[-*+•]|\\d+[.)]|>)\\s+|[*_`]{1,3}")
	softWrap = regexp.MustCompile(`([^\n.!?:])\n([a-z(])`)
)

// tidy takes markup out of a passage, so that a quotation is plain text without links or images.
func tidy(s string) string {
	s = mdLink.ReplaceAllString(s, "$1")
	s = htmlTag.ReplaceAllString(s, " ")
	s = mdMark.ReplaceAllString(s, "")
	s = softWrap.ReplaceAllString(s, "$1 $2")
	return strings.Join(slices.DeleteFunc(strings.Split(s, "\n"), func(l string) bool { return strings.TrimSpace(l) == "" }), "\n")
}
