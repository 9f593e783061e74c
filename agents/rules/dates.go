package rules

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// when is a point or span of time as somebody wrote it.
type when struct {
	Text     string    // how we write it: "mid March 2027", "within 6 weeks (by 3 January 2027)"
	By       time.Time // the last day it can mean; zero for "no fixed date"
	From, To int       // byte range in the text
	Weak     bool      // could as well be a meeting: a weekday, tomorrow
	None     bool      // says that there is no date
}

const monthRE = `(jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sep(?:t(?:ember)?)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)`

// dateRule is one way to write a time. First match at a place wins, so the longer forms come first.
type dateRule struct {
	re   *pattern
	read func(m []string, now time.Time) (when, bool)
}

func dr(re string, read func(m []string, now time.Time) (when, bool)) dateRule {
	return dateRule{rx(`\b(?:` + re + `)`), read}
}

var dateRules = []dateRule{
	dr(`(\d{4})-(\d{2})-(\d{2})\b`, func(m []string, now time.Time) (when, bool) {
		return dayOf(atoi(m[3]), time.Month(atoi(m[2])), atoi(m[1]), now)
	}),
	dr(`(\d{1,2})(?:st|nd|rd|th)?(?: of)? `+monthRE+`\b\.?,?(?: (\d{4}))?`, func(m []string, now time.Time) (when, bool) {
		return dayOf(atoi(m[1]), monthOf(m[2]), atoi(m[3]), now)
	}),
	dr(monthRE+`\.? (\d{1,2})(?:st|nd|rd|th)?\b(?:,? (\d{4}))?`, func(m []string, now time.Time) (when, bool) {
		return dayOf(atoi(m[2]), monthOf(m[1]), atoi(m[3]), now)
	}),
	dr(`(?:the )?(?:(early|beginning of|start of|mid|middle of|late|end of)[- ]?(?:the )?)?`+monthRE+`\b\.?,?(?: (\d{4}))?`, func(m []string, now time.Time) (when, bool) {
		if strings.EqualFold(m[2], "may") && m[1] == "" && m[3] == "" {
			return when{}, false // the verb; "in May" is the next rule
		}
		return inMonth(m[1], m[2], m[3], now)
	}),
	dr(`(?:in|by|before|until|during|from|for) (may)\b(?: (\d{4}))?`, func(m []string, now time.Time) (when, bool) {
		return inMonth("", m[1], m[2], now)
	}),
	dr(`(?:(early|beginning of|start of|mid|middle of|late|end of)[- ]?(?:the )?)?(?:Q([1-4])|(first|second|third|fourth|last) quarter)\b(?:(?: of| in)? ?(\d{4}))?`, func(m []string, now time.Time) (when, bool) {
		q := atoi(m[2])
		if q == 0 {
			q = map[string]int{"first": 1, "second": 2, "third": 3, "fourth": 4, "last": 4}[strings.ToLower(m[3])]
		}
		y := atoi(m[4])
		if y == 0 {
			y = now.Year()
			if q < quarter(now) {
				y++
			}
		}
		return when{Text: strings.TrimSpace(part(m[1]) + fmt.Sprintf(" Q%d %d", q, y)), By: lastDay(y, time.Month(q*3))}, true
	}),
	dr(`(?:(early|beginning of|start of|mid|middle of|late|end of)[- ]?(?:the )?)?(next|this|coming|current) (week|month|quarter|year|spring|summer|autumn|fall|winter)\b`, func(m []string, now time.Time) (when, bool) {
		return relative(m[1], m[2], m[3], now)
	}),
	dr(`(?:the )?(?:end of|year'?s? end|year-end|eoy|eom|eoq)(?: (?:the|this|of the))?(?: (week|month|quarter|year)\b)?`, func(m []string, now time.Time) (when, bool) {
		unit := strings.ToLower(m[1])
		switch low := strings.ToLower(m[0]); {
		case strings.Contains(low, "year") || low == "eoy":
			unit = "year"
		case low == "eom":
			unit = "month"
		case low == "eoq":
			unit = "quarter"
		}
		if unit == "" {
			return when{}, false
		}
		return relative("end of", "this", unit, now)
	}),
	dr(`(in|within|inside|over|for)(?: the)?(?: next| coming)?(?: about| around| roughly| approximately)? (\d+|`+wordRE+`)(?:\s*(?:-|–|to|or)\s*(\d+|`+wordRE+`))?(?: more| short)? ?(day|week|month|quarter|year)s?\b(?: or so)?`, func(m []string, now time.Time) (when, bool) {
		n, ok := parseNumber(m[2])
		if hi, ok2 := parseNumber(m[3]); ok2 {
			n = hi
		}
		if !ok || n <= 0 || n > 1000 {
			return when{}, false
		}
		by := add(now, n, strings.ToLower(m[4]))
		lead := "in"
		if l := strings.ToLower(m[1]); l == "within" || l == "inside" || l == "over" {
			lead = "within"
		} else if l == "for" {
			return when{}, false // a duration, not a date
		}
		count := strings.ToLower(m[2])
		if m[3] != "" {
			count += " to " + strings.ToLower(m[3])
		}
		unit := strings.ToLower(m[4])
		if n != 1 {
			unit += "s"
		}
		return when{Text: fmt.Sprintf("%s %s %s (by %s)", lead, count, unit, by.Format("2 January 2006")), By: by}, true
	}),
	dr(`(\d+|`+wordRE+`) (day|week|month)s? from now`, func(m []string, now time.Time) (when, bool) {
		n, ok := parseNumber(m[1])
		if !ok || n <= 0 || n > 1000 {
			return when{}, false
		}
		by := add(now, n, strings.ToLower(m[2]))
		return when{Text: "by " + by.Format("2 January 2006"), By: by}, true
	}),
	dr(`(?:before|after|by|in|this|during)(?: the)? (spring|summer|autumn|fall|winter|christmas|easter|new year'?s?|holidays)\b`, func(m []string, now time.Time) (when, bool) {
		w, ok := relative("", "next", m[1], now)
		if ok && strings.HasPrefix(strings.ToLower(m[0]), "before") {
			w.Text = "before " + w.Text
		}
		return w, ok
	}),
	dr(`(?:as soon as possible|asap|immediately|right away|straight away|at once|urgent(?:ly)?|yesterday|as quickly as possible|the sooner the better)`, func(_ []string, now time.Time) (when, bool) {
		return when{Text: "as soon as possible", By: now.AddDate(0, 1, 0)}, true
	}),
	dr(`(?:no (?:rush|hurry|fixed date|deadline|timeline|particular (?:date|deadline))|not in a (?:rush|hurry)|(?:we (?:have|'ve) )?not decided when|don'?t (?:have a|know the) (?:date|deadline|timeline)|just (?:looking|browsing|exploring)|sometime|some day|no idea (?:yet|when)|not sure (?:yet )?when|nothing urgent|whenever)`, func(_ []string, _ time.Time) (when, bool) {
		return when{Text: "no fixed date", None: true}, true
	}),
	dr(`(?:in|by|before|until|during) (20[2-9]\d)\b`, func(m []string, _ time.Time) (when, bool) {
		return when{Text: m[1], By: lastDay(atoi(m[1]), 12)}, true
	}),
	dr(`(?:(today|tomorrow)|(?:(next|this|on|by) )(monday|tuesday|wednesday|thursday|friday|saturday|sunday))\b`, func(m []string, now time.Time) (when, bool) {
		by := now
		if strings.EqualFold(m[1], "tomorrow") {
			by = now.AddDate(0, 0, 1)
		}
		for i := 1; m[3] != "" && i <= 7; i++ {
			if d := now.AddDate(0, 0, i); strings.EqualFold(d.Weekday().String(), m[3]) {
				by = d
			}
		}
		return when{Text: by.Format("2 January 2006"), By: by, Weak: true}, true
	}),
}

// past tells that what follows is no plan.
var past = rx(`\b(?:last|since|until last|back in|previous)\s+$`)

// whens finds the times in text, in the order in which they are written.
func whens(text string, now time.Time) []when {
	var out []when
	taken := make([]bool, len(text)+1)
	for _, r := range dateRules {
		for _, m := range r.re.FindAllStringSubmatchIndex(text, -1) {
			if past.MatchString(text[:m[0]]) || taken[m[0]] || taken[max(m[0], m[1]-1)] {
				continue
			}
			groups := make([]string, len(m)/2)
			for i := range groups {
				if m[2*i] >= 0 {
					groups[i] = text[m[2*i]:m[2*i+1]]
				}
			}
			w, ok := r.read(groups, now)
			if !ok || !w.None && w.By.Before(now.AddDate(0, 0, -1)) {
				continue
			}
			w.From, w.To = m[0], m[1]
			for i := m[0]; i < m[1]; i++ {
				taken[i] = true
			}
			out = append(out, w)
		}
	}
	return out
}

func dayOf(day int, month time.Month, year int, now time.Time) (when, bool) {
	if day < 1 || day > 31 || month < 1 || month > 12 {
		return when{}, false
	}
	given := year != 0
	if !given {
		year = now.Year()
	}
	d := time.Date(year, month, day, 0, 0, 0, 0, now.Location())
	if d.Day() != day {
		return when{}, false
	}
	if !given && d.Before(now.AddDate(0, 0, -1)) {
		d = d.AddDate(1, 0, 0)
	}
	return when{Text: d.Format("2 January 2006"), By: d}, true
}

func inMonth(prefix, month, year string, now time.Time) (when, bool) {
	mo, y := monthOf(month), atoi(year)
	if mo == 0 {
		return when{}, false
	}
	if y == 0 {
		y = now.Year()
		if mo < now.Month() {
			y++
		}
	}
	by := lastDay(y, mo)
	switch part(prefix) {
	case "early":
		by = time.Date(y, mo, 10, 0, 0, 0, 0, time.UTC)
	case "mid":
		by = time.Date(y, mo, 15, 0, 0, 0, 0, time.UTC)
	}
	return when{Text: strings.TrimSpace(part(prefix) + " " + fmt.Sprintf("%s %d", mo, y)), By: by}, true
}

func relative(prefix, which, unit string, now time.Time) (when, bool) {
	step := 0
	if w := strings.ToLower(which); w == "next" || w == "coming" {
		step = 1
	}
	p := part(prefix)
	var w when
	switch unit = strings.ToLower(unit); unit {
	case "week":
		by := now.AddDate(0, 0, 7*step+(7-int(now.Weekday()))%7)
		w = when{Text: which + " week (by " + by.Format("2 January 2006") + ")", By: by, Weak: p == ""}
		return w, true
	case "month":
		first := time.Date(now.Year(), now.Month()+time.Month(step), 1, 0, 0, 0, 0, time.UTC)
		w = when{Text: first.Format("January 2006"), By: lastDay(first.Year(), first.Month())}
	case "quarter":
		first := time.Date(now.Year(), time.Month((quarter(now)-1+step)*3+1), 1, 0, 0, 0, 0, time.UTC)
		w = when{Text: fmt.Sprintf("Q%d %d", quarter(first), first.Year()), By: lastDay(first.Year(), first.Month()+2)}
	case "year":
		y := now.Year() + step
		w = when{Text: strconv.Itoa(y), By: lastDay(y, 12)}
		if p == "early" {
			w.By = lastDay(y, 3)
		} else if p == "mid" {
			w.By = lastDay(y, 7)
		}
	default:
		months := map[string]time.Month{"spring": 5, "easter": 4, "summer": 8, "autumn": 11, "fall": 11, "winter": 2, "christmas": 12, "holidays": 12}
		mo, ok := months[unit]
		if !ok {
			mo = 1 // new year
		}
		y := now.Year()
		if mo < now.Month() {
			y++
		}
		w = when{Text: fmt.Sprintf("%s %d", unit, y), By: lastDay(y, mo)}
	}
	w.Text = strings.TrimSpace(p + " " + w.Text)
	return w, true
}

func part(s string) string {
	switch s = strings.ToLower(s); {
	case strings.HasPrefix(s, "early"), strings.HasPrefix(s, "begin"), strings.HasPrefix(s, "start"):
		return "early"
	case strings.HasPrefix(s, "mid"):
		return "mid"
	case strings.HasPrefix(s, "late"), strings.HasPrefix(s, "end"):
		return "end of"
	}
	return ""
}

func monthOf(s string) time.Month {
	s = strings.ToLower(s)
	for m := time.January; m <= time.December; m++ {
		if len(s) >= 3 && strings.HasPrefix(strings.ToLower(m.String()), s[:3]) {
			return m
		}
	}
	return 0
}

func quarter(t time.Time) int { return (int(t.Month())-1)/3 + 1 }

func lastDay(y int, m time.Month) time.Time { return time.Date(y, m+1, 0, 0, 0, 0, 0, time.UTC) }

func add(t time.Time, n float64, unit string) time.Time {
	switch unit {
	case "day":
		return t.AddDate(0, 0, int(n))
	case "week":
		return t.AddDate(0, 0, int(n*7))
	case "month":
		return t.AddDate(0, int(n), int((n-float64(int(n)))*30))
	case "quarter":
		return t.AddDate(0, int(n*3), 0)
	}
	return t.AddDate(int(n), int((n-float64(int(n)))*12), 0)
}

func atoi(s string) int {
	n, _ := strconv.Atoi(s)
	return n
}
