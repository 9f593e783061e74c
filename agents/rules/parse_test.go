package rules

import (
	"testing"
	"time"
)

func TestAmounts(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"We have $38k a year for this":                "$38,000 a year",
		"around 20,000 euros":                         "about €20,000",
		"roughly 20.000 EUR per year":                 "about €20,000 a year",
		"our budget is between $10,000 and $12,500":   "$10,000 to $12,500",
		"20-25k euros annually":                       "€20,000 to €25,000 a year",
		"up to £1,500/month":                          "up to £1,500 a month",
		"we could spend 8 dollars per user per month": "$8 per person a month",
		"$4.50 per employee a month":                  "$4.50 per person a month",
		"about twenty thousand dollars":               "about $20,000",
		"1.5 million USD":                             "$1,500,000",
		"no more than 15k":                            "up to $15,000",
		"CHF 12'000 yearly":                           "12,000 CHF a year",
		"€ 900 monthly":                               "€900 a month",
		"a couple of thousand euros":                  "€2,000",
		"30 grand or so":                              "about $30,000",
		"We are 40 people in 3 offices since 2019":    "",
		"call me at 555 1234567":                      "",
		"we need it in 6 weeks":                       "",
	} {
		got := ""
		if a := amounts(text, "USD", false); len(a) > 0 {
			got = a[0].String()
		}
		if got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	if a := amounts("maybe 40000", "EUR", true); len(a) != 1 || a[0].String() != "€40,000" || !a[0].Bare {
		t.Errorf("bare number: %v", a)
	}
}

func TestWhens(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC) // a Sunday
	for text, want := range map[string]string{
		"by mid March":                  "mid March 2027",
		"we want to start next quarter": "Q1 2027",
		"in 6 weeks":                    "in 6 weeks (by 3 January 2027)",
		"within two months":             "within two months (by 22 January 2027)",
		"before the end of the year":    "end of 2026",
		"by the end of Q2":              "end of Q2 2027",
		"in Q3 2027":                    "Q3 2027",
		"early next year":               "early 2027",
		"on 1 June we open":             "1 June 2027",
		"December 15th":                 "15 December 2026",
		"2027-03-15":                    "15 March 2027",
		"in May":                        "May 2027",
		"we may need it":                "",
		"ASAP please":                   "as soon as possible",
		"there is no rush":              "no fixed date",
		"before summer":                 "before summer 2027",
		"next month":                    "December 2026",
		"in 2 to 3 months":              "in 2 to 3 months (by 22 February 2027)",
		"last March was bad, in March 2025 we had": "",
		"we are 40 people":                         "",
		"for 3 years":                              "",
		"a contract for 12 months":                 "",
		"in a couple of weeks":                     "in a couple of weeks (by 6 December 2026)",
		"sometime in January":                      "January 2027",
	} {
		got := ""
		if w := whens(text, now); len(w) > 0 {
			got = w[0].Text
		}
		if got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestHeadcounts(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"about 40 people":                    "about 40 people",
		"we have 120 employees in 3 cities":  "120 people",
		"a team of 12":                       "12 people",
		"it is a 40-person company":          "40 people",
		"we are 25.":                         "25 people",
		"there are around 15 of us":          "about 15 people",
		"between 30 and 40, so 30-40 nurses": "30 to 40 people",
		"50+ staff":                          "about 50 people",
		"forty-five warehouse workers":       "45 people",
		"1,200 employees":                    "1,200 people",
		"a couple of dozen drivers":          "about 24 people",
		"we are a small company":             "",
		"I am a team member":                 "",
		"we are 3 weeks late":                "",
		"We have about 4,000 euros a year.":  "",
	} {
		got := ""
		if h := headcounts(text); len(h) > 0 {
			got = h[0].String()
		}
		if got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestWhoDecides(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"I'm the COO": "COO",
		"I am the COO and I decide together with our CFO.":  "COO, decides together with the CFO",
		"I decide together with our CFO":                    "decides together with the CFO",
		"I'm head of operations, our CEO has to approve it": "head of operations, needs approval from the CEO",
		"I am the owner, so it's my decision":               "owner, decides alone",
		"I'm an operations manager; my boss decides":        "operations manager, the boss decides",
		"I run the company":                                 "runs the company",
		"The final say is with our managing director.":      "the managing director decides",
		"I would need approval from the board":              "needs approval from the board",
		"I make the decision":                               "decides alone",
		"It's not my decision":                              "does not decide",
		"our CFO and I decide":                              "decides together with the CFO",
		"I'm looking for a tool":                            "",
		"I am interested in a demo with the team":           "",
		"I'm the co-founder and CEO":                        "co-founder and CEO",
		"We work together with our customers on schedules":  "",
	} {
		if got := whoDecides(text).String(); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
