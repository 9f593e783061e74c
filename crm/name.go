package crm

import (
	"net/mail"
	"strings"

	"github.com/nyaruka/phonenumbers"
)

// Words that belong to the family name that follows them.
var particles = map[string]bool{
	"van": true, "von": true, "der": true, "den": true, "de": true, "del": true, "della": true, "di": true, "da": true, "dos": true, "das": true,
	"du": true, "la": true, "le": true, "el": true, "al": true, "bin": true, "ibn": true, "ten": true, "ter": true, "zu": true, "zur": true, "af": true, "av": true,
}

// Words before a name that are no part of it.
var honorifics = map[string]bool{
	"mr": true, "mrs": true, "ms": true, "miss": true, "mx": true, "dr": true, "prof": true, "sir": true,
	"herr": true, "frau": true, "dipl.-ing": true, "ing": true, "mag": true, "monsieur": true, "madame": true, "sr": true, "sra": true,
}

// SplitName splits a person's name as written into first and last name: "Sara Weber",
// "Weber, Sara", "Dr. Ludwig van Beethoven". One word is a first name.
func SplitName(name string) (first, last string) {
	name = strings.Join(strings.Fields(name), " ")
	if l, f, ok := strings.Cut(name, ", "); ok && f != "" && !strings.Contains(f, ",") {
		return strings.Join(dropHonorifics(strings.Fields(f)), " "), l
	}
	words := dropHonorifics(strings.Fields(name))
	if len(words) < 2 {
		return strings.Join(words, " "), ""
	}
	cut := len(words) - 1
	for i := 1; i < len(words)-1; i++ {
		if particles[strings.ToLower(words[i])] {
			cut = i
			break
		}
	}
	return strings.Join(words[:cut], " "), strings.Join(words[cut:], " ")
}

func dropHonorifics(words []string) []string {
	for len(words) > 1 && honorifics[strings.ToLower(strings.TrimSuffix(words[0], "."))] {
		words = words[1:]
	}
	return words
}

// NormalizeEmail returns an address in the one form it is stored and recognized in, and
// whether it is one.
func NormalizeEmail(s string) (string, bool) {
	s = strings.ToLower(strings.TrimSpace(s))
	a, err := mail.ParseAddress(s)
	if err != nil || a.Address != s || len(s) > 254 || strings.ContainsAny(s, "\x00\r\n") {
		return "", false
	}
	return s, true
}

// NormalizePhone returns a number in E.164, such as "+4940123456", and whether it is one.
// Region, an ISO 3166 alpha-2 code, reads numbers without a country code; empty means
// that such numbers are none.
func NormalizePhone(s, region string) (string, bool) {
	s = strings.TrimSpace(s)
	if s == "" || len(s) > 60 {
		return "", false
	}
	if region == "" {
		region = "ZZ" // the library's name for "unknown"
	}
	n, err := phonenumbers.Parse(s, region)
	if err != nil || !phonenumbers.IsValidNumber(n) {
		return "", false
	}
	return phonenumbers.Format(n, phonenumbers.E164), true
}
