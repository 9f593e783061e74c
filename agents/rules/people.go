package rules

import (
	"fmt"
	"regexp"
	"strings"
)

// headcount is how many people a text speaks of. High equals Low when it is no range.
type headcount struct {
	Low, High int
	About     bool
	From, To  int
}

// String writes it as "about 40 people".
func (h headcount) String() string {
	s := comma(int64(h.Low))
	if h.High > h.Low {
		s += " to " + comma(int64(h.High))
	}
	if h.About {
		s = "about " + s
	}
	return s + " people"
}

const (
	countRE  = `(\d{1,3}(?:[,.]\d{3})+|\d{1,6}|` + wordRE + `)(?:\s*(hundred|thousand|dozen|k)\b)?`
	peopleRE = `(?:people|persons|employees|staff(?: members)?|team members|members|workers|users|seats|colleagues|agents|reps|technicians|engineers|drivers|nurses|carers|cleaners|waiters|guards|consultants|therapists|doctors|teachers|installers|mechanics|folks|heads|FTEs?|men and women|licen[cs]es)`
)

var headcountRules = []*pattern{
	rx(`\b` + countRE + `(?:\s*(?:-|–|to|or)\s*` + countRE + `)?\+?\s*(?:[a-z-]+ ){0,2}` + peopleRE + `\b`),
	rx(`\b(?:team|company|staff|crew|workforce|department|organi[sz]ation|business|headcount|group) of (?:about |around |roughly |some |nearly |almost )?` + countRE + `(?:\s*(?:-|–|to|or)\s*` + countRE + `)?`),
	rx(`\b` + countRE + `(?:\s*(?:-|–|to|or)\s*` + countRE + `)?[- ](?:person|people|man|strong|employee)\b`),
	rx(`\b(?:we are|we're|there are|we have) (?:about |around |roughly |some |nearly |almost |currently |now )*` + countRE + `(?:\s*(?:-|–|to|or)\s*` + countRE + `)?(?: of us)?(?:[.,;!](?:\s|$)|$| (?:in total|now|today|and|across|at|in)\b)`),
	rx(`\b` + countRE + `(?:\s*(?:-|–|to|or)\s*` + countRE + `)? of us\b`),
}

// headcounts finds the number of people a text speaks of; the first is the best.
func headcounts(text string) []headcount {
	var out []headcount
	for _, re := range headcountRules {
		for _, m := range re.FindAllStringSubmatchIndex(text, -1) {
			get := func(i int) string {
				if m[2*i] < 0 {
					return ""
				}
				return text[m[2*i]:m[2*i+1]]
			}
			low, ok := parseNumber(get(1))
			if !ok {
				continue
			}
			if w := strings.ToLower(get(1)); w == "a" || w == "an" || w == "one" {
				if get(2) == "" {
					continue // "a team member" is no count
				}
			}
			low *= scaleOf(get(2))
			high := low
			if n, ok := parseNumber(get(3)); ok && get(3) != "" {
				high = n * scaleOf(get(4))
			}
			if low < 1 || high < low || high > 1e6 || low != float64(int(low)) {
				continue
			}
			before, inside := text[max(0, m[0]-30):m[0]], strings.ToLower(text[m[0]:m[1]])
			about := beforeRE.MatchString(before) || strings.Contains(inside, "+") || vague.MatchString(inside)
			out = append(out, headcount{int(low), int(high), about, m[0], m[1]})
		}
		if len(out) > 0 {
			break
		}
	}
	return out
}

var vague = regexp.MustCompile(`\b(about|around|roughly|some|nearly|almost|couple|few)\b`)

// authority is what a text says about who decides.
type authority struct {
	Role       string // "COO", "head of operations"; "" when not said
	Decides    string // "decides alone", "decides together with the CFO", "needs approval from the board"
	Confidence float64
	From, To   int
}

// String joins role and decision: "COO, decides together with the CFO".
func (a authority) String() string {
	if a.Role != "" && a.Decides != "" {
		return a.Role + ", " + a.Decides
	}
	return a.Role + a.Decides
}

const (
	titleRE = `(?:c[a-z]o|chro)\b(?: (?:and|&) (?:co-?)?(?:founder|owner))?|(?:co-?)?(?:founder|owner)\b(?: (?:and|&) (?:c[a-z]o|managing director|owner))?` +
		`|(?:(?:senior|vice|executive|assistant|associate|deputy|regional|group) )?(?:head|vp|vice president|director|manager|lead|chief) of [a-z]+(?: (?:and|&) [a-z]+)?` +
		`|(?:[a-z&-]+ ){0,2}?(?:managing director|director|manager|president|partner|principal|supervisor|coordinator|administrator|officer|assistant|planner|dispatcher|controller|accountant|buyer|engineer|developer|consultant|analyst|secretary|intern|trainee|student|lead)\b` +
		`|boss\b|decision[- ]maker\b`
	othersRE = `((?:our|my|the|his|her) [a-z][a-z'-]*(?: (?:of )?[a-z][a-z'-]*){0,3}?|[a-z]+ from [a-z]+)`
	endRE    = `(?:[.,;:!?)]|$|\s+(?:and|but|who|which|before|for|on|in|first|as|too|together|also|by|when|if|so|about|has|must|needs|will|would|to)\b)`
)

var (
	roleRE = rx(`\b(?:i am|i'm|im|my (?:role|title|job|position) is|i work as|i serve as|speaking as|as)(?: also| currently)? (?:the |an? |our |your )?(` + titleRE + `)`)
	runsRE = rx(`\bi (run|own|manage|lead|head) (?:the |our |a |my )?((?:[a-z]+ )?(?:company|business|firm|practice|shops?|clinics?|restaurants?|hotels?|operations|team|department|office|agency|chain|store|studio|school))\b`)
	// The alternatives of decisionRules are tried in order; the first that matches wins.
	decisionRules = []struct {
		re   *pattern
		text string // %s is who else
		conf float64
	}{
		{rx(`\b(?:not (?:my|mine) (?:decision|call)|(?:i'?m|i am) not the (?:one|decision)|i don'?t (?:decide|make (?:the|that|this) decision)|not up to me|just (?:doing|gathering) (?:the |some )?(?:research|information))`), "does not decide", 0.6},
		{rx(`\b(?:decide|decides|decision)\b[^.!?]{0,30}?\b(?:together |jointly |along )?with ` + othersRE + endRE), "decides together with %s", 0.9},
		{rx(`\btogether with ` + othersRE + endRE), "decides together with %s", 0.75},
		{rx(`\b` + othersRE + ` and (?:i|me|myself)\b[^.!?]{0,20}\b(?:decide|decision|choose)`), "decides together with %s", 0.9},
		{rx(`\b(?:need|needs|require|requires|get|subject to)\b[^.!?]{0,20}?\b(?:approval|sign-?off|the ok|permission|go-?ahead|blessing)\b(?: from| by| of) ` + othersRE + endRE), "needs approval from %s", 0.85},
		{rx(`\b` + othersRE + `(?:, [^,.]{2,30},)? (?:also )?(?:has to|have to|must|needs to|will|would|should) (?:approve|sign(?: it| this)?(?: off)?|agree|decide|confirm)`), "needs approval from %s", 0.85},
		{rx(`\b` + othersRE + `(?:, [^,.]{2,30},)? (?:decides|makes the (?:final )?(?:decision|call)|signs off|has the (?:final|last) (?:say|word)|holds the budget)`), "%s decides", 0.85},
		{rx(`\b(?:final (?:say|decision|word)|decision|sign-?off) (?:is|lies|rests|sits|comes|will be)(?: made| taken)?(?: with| from| by)? ` + othersRE + endRE), "%s decides", 0.85},
		{rx(`\bi(?:'ll| will| can| would| do| also)?(?: be the one (?:who|to))? (?:decides?\b|sign(?: it| this| that)? (?:off|myself|alone)|approve|make (?:the |that |this |all )?(?:final )?(?:purchasing |buying )?(?:decisions?|call)|have (?:the )?(?:final|last) (?:say|word)|have the authority)`), "decides alone", 0.9},
		{rx(`\b(?:(?:it'?s|that'?s|it is|that is|the decision is|entirely|all|is) (?:mine|up to me|my (?:decision|call|choice))|my decision|my call|just me|only me|me alone)\b`), "decides alone", 0.9},
	}
)

// whoDecides reads role and decision from text. Confidence is 0 when it says neither.
func whoDecides(text string) authority {
	var a authority
	a.From, a.To = len(text), 0
	mark := func(m []int, conf float64) {
		a.Confidence = max(a.Confidence, conf)
		a.From, a.To = min(a.From, m[0]), max(a.To, m[1])
	}
	if m := roleRE.FindStringSubmatchIndex(text); m != nil {
		a.Role = roleName(text[m[2]:m[3]])
		mark(m, roleWeight(a.Role))
	} else if m := runsRE.FindStringSubmatchIndex(text); m != nil {
		a.Role = strings.ToLower(fmt.Sprintf("%ss the %s", text[m[2]:m[3]], text[m[4]:m[5]]))
		mark(m, 0.7)
	}
	for _, r := range decisionRules {
		m := r.re.FindStringSubmatchIndex(text)
		if m == nil {
			continue
		}
		if !strings.Contains(r.text, "%s") {
			a.Decides = r.text
			mark(m, r.conf)
			break
		}
		if who := otherName(text[m[2]:m[3]]); who != "" {
			a.Decides = fmt.Sprintf(r.text, who)
			mark(m, r.conf)
			break
		}
	}
	return a
}

var acronym = rx(`^(c[a-z]o|chro|vp|hr|it|svp|evp)$`)

func roleName(s string) string {
	words := strings.Fields(strings.ToLower(s))
	for len(words) > 1 && (words[0] == "just" || words[0] == "only" || words[0] == "a" || words[0] == "an" || words[0] == "the" || words[0] == "currently") {
		words = words[1:]
	}
	if n := len(words); n > 2 && (words[n-2] == "and" || words[n-2] == "&") {
		switch words[n-1] { // "head of operations and I ..." ends before the "and"
		case "i", "we", "my", "our", "the", "also", "in", "am", "not", "would", "will", "want", "need", "have", "decide":
			words = words[:n-2]
		}
	}
	for i, w := range words {
		if acronym.MatchString(w) {
			words[i] = strings.ToUpper(w)
		}
	}
	return strings.Join(words, " ")
}

// deciders are the people and bodies that take part in decisions. A phrase without one of them,
// or an acronym such as CFO, names nobody.
var deciders = rx(`\b(?:c[a-z]o|chro|vp|hr|it|boss|bosses|manager|managers|director|directors|head|board|partners?|wife|husband|owners?|founders?|co-?founders?|department|management|council|committee|colleagues?|lead|leads|procurement|purchasing|finance|legal|operations|marketing|chief|president|supervisor|accountant|controller|investors?|shareholders?|parents?|leadership|executive|executives|team|brother|sister|father|mother|headquarters|group|principal|dean|chair(?:man|woman|person)?|treasurer|secretary|union|works council|client|superior)\b`)

// otherName turns "our CFO" into "the CFO" and refuses what cannot be a person or body.
func otherName(s string) string {
	words := strings.Fields(s)
	if len(words) > 1 {
		switch strings.ToLower(words[0]) {
		case "our", "my", "the", "his", "her":
			words = words[1:]
		}
	}
	name := strings.Join(words, " ")
	if len(words) == 0 || len(words) > 4 || !deciders.MatchString(name) || strings.Contains(" "+name+" ", " is ") {
		return ""
	}
	for i, w := range words {
		if acronym.MatchString(w) {
			words[i] = strings.ToUpper(w)
		}
	}
	return "the " + strings.Join(words, " ")
}

// roleWeight says how sure a role alone makes us that this person decides.
func roleWeight(role string) float64 {
	low := strings.ToLower(role)
	for _, w := range []string{"founder", "owner", "ceo", "coo", "cfo", "cto", "cio", "managing director", "president", "partner", "principal", "decision", "boss"} {
		if strings.Contains(low, w) {
			return 0.75
		}
	}
	for _, w := range []string{"director", "head of", "vp", "chief", "cmo", "cpo", "cro", "chro", "ciso"} {
		if strings.Contains(low, w) {
			return 0.65
		}
	}
	if strings.Contains(low, "manager") || strings.Contains(low, "lead") {
		return 0.45
	}
	return 0.35
}
