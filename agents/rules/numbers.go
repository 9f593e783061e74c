package rules

import (
	"regexp"
	"strconv"
	"strings"
)

// numberWords are the small numbers people spell out.
var numberWords = map[string]float64{
	"a": 1, "an": 1, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10,
	"eleven": 11, "twelve": 12, "thirteen": 13, "fourteen": 14, "fifteen": 15, "sixteen": 16, "seventeen": 17, "eighteen": 18, "nineteen": 19,
	"twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90,
	"couple": 2, "few": 3, "dozen": 12, "half": 0.5,
}

var scaleWords = map[string]float64{
	"hundred": 100, "thousand": 1e3, "grand": 1e3, "million": 1e6, "k": 1e3, "m": 1e6, "mio": 1e6, "mn": 1e6, "tsd": 1e3, "dozen": 12,
}

// The ways in which a number is written, as parts for larger expressions.
const (
	digitsRE = `\d{1,3}(?:[,.' \x{00a0}\x{202f}]\d{3})+(?:[.,]\d{1,2})?|\d+(?:[.,]\d+)?`
	wordRE   = `(?:a couple(?: of)?|a few|a dozen|half a|an?|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen|seventeen|eighteen|nineteen|(?:twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety)(?:[- ](?:one|two|three|four|five|six|seven|eight|nine))?)`
	scaleRE  = `(?:hundred|thousand|grand|million|mio|tsd|dozen|k|m|mn)\b`
)

// parseNumber reads "38", "38,000", "38.000", "1.5", "twenty-five", "a couple of".
func parseNumber(s string) (float64, bool) {
	s = strings.ToLower(strings.TrimSpace(s))
	if s == "" {
		return 0, false
	}
	if s[0] >= '0' && s[0] <= '9' {
		return parseDigits(s)
	}
	total, seen := 0.0, false
	for _, w := range strings.FieldsFunc(s, func(r rune) bool { return r == ' ' || r == '-' }) {
		n, ok := numberWords[w]
		switch {
		case w == "of":
		case !ok:
			return 0, false
		case (w == "couple" || w == "few" || w == "dozen" || w == "half") && seen && total == 1:
			total = n // a couple
		case (w == "a" || w == "an") && seen:
		default:
			total, seen = total+n, true
		}
	}
	return total, seen || total > 0
}

var thousands = regexp.MustCompile(`^\d{1,3}([,.' \x{00a0}\x{202f}])\d{3}`)

// parseDigits tells 1,500 and 1.500 (fifteen hundred) from 1.5 and 1,5.
func parseDigits(s string) (float64, bool) {
	if m := thousands.FindStringSubmatch(s); m != nil {
		whole, frac := s, ""
		if i := strings.LastIndexAny(s, ".,"); i >= 0 && len(s)-i <= 3 { // a last group of one or two digits is a fraction
			whole, frac = s[:i], s[i+1:]
		}
		whole = strings.Map(func(r rune) rune {
			if r >= '0' && r <= '9' {
				return r
			}
			return -1
		}, whole)
		n, err := strconv.ParseFloat(whole+"."+frac+"0", 64)
		return n, err == nil
	}
	n, err := strconv.ParseFloat(strings.Replace(s, ",", ".", 1), 64)
	return n, err == nil
}

// comma writes 38000 as 38,000.
func comma(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
