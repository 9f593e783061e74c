package rules

import (
	"math"
	"strings"
)

// amount is a sum of money as somebody wrote it. High equals Low when it is no range.
type amount struct {
	Low, High float64 // in whole currency units
	Currency  string  // ISO 4217
	Per       string  // "year", "month", "week", "quarter", "" for once or not said
	Each      bool    // per user, employee, seat
	About     bool
	UpTo      bool
	Bare      bool // no currency was written: the caller decides whether it is money at all
	From, To  int  // byte range in the text
}

// String writes the amount the way it is kept as a qualification value: "about $38,000 a year".
func (a amount) String() string {
	var b strings.Builder
	switch {
	case a.UpTo:
		b.WriteString("up to ")
	case a.About:
		b.WriteString("about ")
	}
	sign, code := signs[a.Currency], ""
	if sign == "" {
		code = " " + a.Currency
	}
	b.WriteString(sign + plain(a.Low))
	if a.High > a.Low {
		b.WriteString(" to " + sign + plain(a.High))
	}
	b.WriteString(code)
	if a.Each {
		b.WriteString(" per person")
	}
	if a.Per != "" {
		b.WriteString(" a " + a.Per)
	}
	return b.String()
}

var signs = map[string]string{"USD": "$", "EUR": "€", "GBP": "£"}

func plain(f float64) string {
	if f == math.Trunc(f) {
		return comma(int64(f))
	}
	cents := int64(math.Round(f * 100))
	s := comma(cents/100) + "."
	return s + string([]byte{byte('0' + cents/10%10), byte('0' + cents%10)})
}

const currencyRE = `US\$|C\$|CA\$|A\$|AU\$|\$|€|£|¥|₹|USD|EUR|GBP|CHF|CAD|AUD|INR|SEK|NOK|DKK|PLN|JPY|euros?|dollars?|bucks|pounds?(?: sterling)?|quid|francs?|rupees?|kronor|zloty`

var currencies = map[string]string{
	"us$": "USD", "$": "USD", "usd": "USD", "dollar": "USD", "dollars": "USD", "bucks": "USD", "c$": "CAD", "ca$": "CAD", "cad": "CAD", "a$": "AUD", "au$": "AUD", "aud": "AUD",
	"€": "EUR", "eur": "EUR", "euro": "EUR", "euros": "EUR", "£": "GBP", "gbp": "GBP", "pound": "GBP", "pounds": "GBP", "pounds sterling": "GBP", "pound sterling": "GBP", "quid": "GBP",
	"¥": "JPY", "jpy": "JPY", "₹": "INR", "inr": "INR", "rupee": "INR", "rupees": "INR", "chf": "CHF", "franc": "CHF", "francs": "CHF", "sek": "SEK", "kronor": "SEK",
	"nok": "NOK", "dkk": "DKK", "pln": "PLN", "zloty": "PLN",
}

var (
	moneyNumber = `(` + digitsRE + `|` + wordRE + `)(?:\s*-?\s*(` + scaleRE + `))?(?:\s*(thousand|million)\b)?`
	moneyRE     = rx(`(?:(` + currencyRE + `)\s*)?\b` + moneyNumber + `(?:\s*(?:-|–|to|and|or)\s*(?:(?:` + currencyRE + `)\s*)?` + moneyNumber + `)?(?:\s*(` + currencyRE + `)(?:[^\pL]|$))?`)
	perRE       = rx(`^[\s,]*(?:(?:per|a|an|each|every|/|for each)\s*(user|seat|employee|person|head|member|agent|licen[cs]e)s?)?[\s,]*(?:(?:(?:per|a|an|each|every|/)\s*)(year|yr|annum|month|mo|week|quarter)\b|(annually|yearly|p\.a\.|pa\b|monthly|weekly|quarterly))?`)
	aboutRE     = rx(`(?:\babout|\baround|\broughly|\bapprox(?:imately|\.)?|\bsome|\bcirca|\bca\.|\bclose to|\bin the (?:range|region|area|ballpark) of|\bnear(?:ly)?|\balmost|~|\bor so)\s*$`)
	upToRE      = rx(`(?:\bup to|\bno more than|\bat most|\bmax(?:imum)?(?: of)?|\bunder|\bbelow|\bless than|\bnot (?:more|over)(?: than)?|\bcapped at)\s*$`)
	beforeRE    = rx(`(?:\babout|\baround|\broughly|\bapprox(?:imately|\.)?|\bsome|\bcirca|\bca\.|~|\bup to|\bunder)\s*$`)
)

// amounts finds the sums of money in text. A sign or code decides the currency; without one, and
// only with a "k" or the like or when bare is true, it is the given currency.
func amounts(text, currency string, bare bool) []amount {
	var out []amount
	for _, m := range moneyRE.FindAllStringSubmatchIndex(text, -1) {
		get := func(i int) string {
			if m[2*i] < 0 {
				return ""
			}
			return text[m[2*i]:m[2*i+1]]
		}
		low, ok := parseNumber(get(2))
		if !ok {
			continue
		}
		scale1 := scaleOf(get(3)) * scaleOf(get(4))
		a := amount{Low: low * scale1, From: m[0], To: m[1]}
		a.High = a.Low
		if high, ok := parseNumber(get(5)); ok && get(5) != "" {
			scale2 := scaleOf(get(6)) * scaleOf(get(7))
			if scale1 == 1 && scale2 > 1 && low < 1000 { // 20-25k
				a.Low = low * scale2
			}
			a.High = high * scale2
		}
		written := get(1)
		if written == "" {
			written = get(8)
		}
		a.Currency = currencies[strings.ToLower(written)]
		if written == "" {
			// "k" alone reads as money; spelled numbers, counts and years do not.
			if letter := strings.ToLower(get(3) + get(6)); !bare && !strings.HasPrefix(letter, "k") && !strings.HasPrefix(letter, "grand") {
				continue
			}
			a.Currency, a.Bare = currency, true
		}
		if a.High < a.Low || a.Low <= 0 || a.High > 1e12 {
			continue
		}
		rest := text[m[1]:]
		if m[17] >= 0 && m[16] >= 0 {
			rest = text[m[17]:] // the expression took one byte more to see the end of the word
			a.To = m[17]
		}
		if p := perRE.FindStringSubmatch(rest); p != nil {
			a.Each = p[1] != ""
			a.Per = period(p[2] + p[3])
			a.To += len(strings.TrimRight(p[0], " ,"))
		}
		before := text[max(0, m[0]-40):m[0]]
		a.UpTo = upToRE.MatchString(before)
		a.About = !a.UpTo && (aboutRE.MatchString(before) || strings.HasPrefix(strings.TrimSpace(strings.ToLower(rest)), "or so"))
		out = append(out, a)
	}
	return out
}

func scaleOf(s string) float64 {
	if n, ok := scaleWords[strings.ToLower(s)]; ok {
		return n
	}
	return 1
}

func period(s string) string {
	switch s = strings.ToLower(s); {
	case s == "":
		return ""
	case strings.HasPrefix(s, "mo"):
		return "month"
	case strings.HasPrefix(s, "w"):
		return "week"
	case strings.HasPrefix(s, "q"):
		return "quarter"
	}
	return "year"
}
