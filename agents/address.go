package agents

import (
	"slices"
	"strings"
	"unicode"

	"golang.org/x/net/idna"
	"golang.org/x/net/publicsuffix"
)

// trailing is what a sentence puts behind an address.
const trailing = ".,;:!?)]}'\"*_"

// The names at the end of an address that no registry of the Internet has, and that lead somewhere all the same.
var ownTLDs = []string{"test", "example", "invalid", "localhost", "local", "internal", "intranet", "lan", "home", "corp", "onion", "i2p", "bit", "eth"}

// Endings that are English words too: "the plan.It costs" is a sentence and no address.
var wordTLDs = []string{"am", "as", "at", "be", "by", "do", "in", "is", "it", "me", "my", "no", "so", "to", "us", "to", "do", "id", "im", "pm"}

var dots = strings.NewReplacer("。", ".", "．", ".", "｡", ".")

// isAddress reports whether a run of names with dots between them, perhaps with a port or a path, is one that a mail or chat
// client would open.
func isAddress(s string) bool {
	s = dots.Replace(s)
	host, path := s, ""
	if i := strings.IndexAny(s, ":/?#\\"); i >= 0 {
		host, path = s[:i], strings.TrimRight(s[i+1:], trailing)
	}
	labels := strings.Split(host, ".")
	last := labels[len(labels)-1]
	if !strings.ContainsFunc(host, unicode.IsLetter) {
		return len(labels) == 4 && !slices.ContainsFunc(labels, func(l string) bool { return len(l) > 3 })
	}
	if !strings.ContainsFunc(last, unicode.IsLetter) {
		return false
	}
	lower := strings.ToLower(host)
	end := strings.ToLower(last)
	if slices.Contains(wordTLDs, end) && len(labels) == 2 && path == "" && host != lower {
		return false
	}
	if slices.Contains(ownTLDs, end) {
		return true
	}
	if ascii, err := idna.ToASCII(lower); err == nil {
		suffix, registered := publicsuffix.PublicSuffix(ascii)
		if registered || strings.Contains(suffix, ".") {
			return true
		}
	}
	return path != "" && len(last) >= 2 && !strings.ContainsFunc(last, unicode.IsDigit)
}

// visible drops characters that a reader does not see and that could split what a rule looks for, and writes
// letters that only look different, such as those of full width, as the plain ones that a browser makes of them.
func visible(text string) string {
	var b strings.Builder
	b.Grow(len(text))
	var before rune
	for _, r := range text {
		r = folded(r)
		switch {
		case r == '\n' || r == '\t':
		case unseen(r):
			continue
		case (r == 0x200d || r >= 0xfe00 && r <= 0xfe0f) && (before < 0x2000 || unicode.IsLetter(before)):
			continue // these join and color pictures; between letters they only hide
		}
		b.WriteRune(r)
		before = r
	}
	return b.String()
}

func unseen(r rune) bool {
	switch {
	case r < 0x20, r >= 0x7f && r < 0xa0, r == unicode.ReplacementChar, r == 0xad, r == 0x34f, r == 0x61c, r == 0x115f, r == 0x1160, r == 0x17b4, r == 0x17b5,
		r >= 0x180b && r <= 0x180f, r >= 0x200b && r <= 0x200f && r != 0x200d, r >= 0x2028 && r <= 0x202e, r >= 0x2060 && r <= 0x206f, r == 0x2800, r == 0x3164, r == 0xfeff,
		r == 0xffa0, r >= 0xfff0 && r <= 0xfffb, r >= 0xe000 && r <= 0xf8ff, r >= 0xe0000:
		return true
	}
	return false
}

// folded is the plain form of a letter, digit or sign of an address that is written in another font or width.
func folded(r rune) rune {
	switch {
	case r >= 0xff10 && r <= 0xff19, r >= 0xff21 && r <= 0xff3a, r >= 0xff41 && r <= 0xff5a, r == 0xff0e, r == 0xff0f, r == 0xff20:
		return r - 0xfee0
	case r == 0x3002 || r == 0xff61:
		return r // a full stop in Chinese and Japanese; isAddress reads it as a dot
	case r == 0x2024:
		return '.'
	case r >= 0x24b6 && r <= 0x24cf:
		return 'A' + r - 0x24b6
	case r >= 0x24d0 && r <= 0x24e9:
		return 'a' + r - 0x24d0
	case r >= 0x1d400 && r <= 0x1d6a3: // thirteen alphabets of 52 letters
		i := (r - 0x1d400) % 52
		if i < 26 {
			return 'A' + i
		}
		return 'a' + i - 26
	case r >= 0x1d7ce && r <= 0x1d7ff:
		return '0' + (r-0x1d7ce)%10
	}
	return r
}

// noise reports a run of letters and digits that is no word: a key, or data in disguise.
func noise(s string) bool {
	letters, numbers := 0, 0
	for _, r := range s {
		switch {
		case r >= '0' && r <= '9':
			numbers++
		case r != '-' && r != '_' && r != '/' && r != '+' && r != '=':
			letters++
		}
	}
	return numbers >= 3 && letters >= 3
}
