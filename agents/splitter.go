package agents

import (
	"strings"
	"unicode/utf8"
)

// passageSize is the most bytes of a passage without its heading.
const passageSize = 800

// Split cuts a document into passages of at most about 800 bytes, along paragraphs and then
// sentences. Each passage begins with the heading it stands under, because a paragraph such as
// "30 days." means nothing without it.
func Split(body string) []string {
	var out []string
	heading, buf := "", ""
	flush := func() {
		if buf = strings.TrimSpace(buf); buf != "" {
			if heading != "" {
				buf = heading + "\n" + buf
			}
			out = append(out, buf)
		}
		buf = ""
	}
	body = strings.ReplaceAll(strings.ReplaceAll(body, "\r\n", "\n"), "\x00", "")
	for _, par := range strings.Split(body, "\n\n") {
		par = strings.TrimSpace(par)
		if line, rest, _ := strings.Cut(par, "\n"); strings.HasPrefix(line, "#") {
			flush()
			heading = clip(strings.TrimSpace(strings.TrimLeft(line, "#")), 120)
			par = strings.TrimSpace(rest)
		}
		for _, piece := range pieces(par) {
			if len(buf)+2+len(piece) > passageSize {
				flush()
			}
			if buf != "" {
				buf += "\n\n"
			}
			buf += piece
		}
	}
	flush()
	return out
}

// pieces cuts a paragraph that is too long behind sentences, else behind words, else anywhere.
func pieces(par string) []string {
	var out []string
	for len(par) > passageSize {
		window := clip(par, passageSize)
		cut := max(lastEnd(window, ". "), lastEnd(window, "? "), lastEnd(window, "! "), lastEnd(window, "\n"))
		if cut < passageSize/4 {
			cut = max(cut, lastEnd(window, " "))
		}
		if cut <= 0 {
			cut = len(window)
		}
		out = append(out, strings.TrimSpace(par[:cut]))
		par = strings.TrimSpace(par[cut:])
	}
	if par != "" && utf8.ValidString(par) {
		out = append(out, par)
	}
	return out
}

func lastEnd(s, sep string) int {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return i + len(sep)
	}
	return -1
}
