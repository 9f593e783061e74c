// Package richtext makes HTML of what people write as Markdown, with nothing in it that could act or load in a reader's browser.
package richtext

import (
	"bytes"
	"html"
	"regexp"
	"strings"

	"github.com/microcosm-cc/bluemonday"
	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/extension"
	render "github.com/yuin/goldmark/renderer/html"
)

// A line break is one, as people expect of a note. HTML in the text is left out by the renderer already; the policy decides
// all the same, by itself.
var markdown = goldmark.New(
	goldmark.WithExtensions(extension.NewLinkify(extension.WithLinkifyAllowedProtocols([]string{"https:", "http:"})), extension.Strikethrough, extension.Table),
	goldmark.WithRendererOptions(render.WithHardWraps()),
)

var policy = func() *bluemonday.Policy {
	p := bluemonday.NewPolicy()
	p.AllowElements("p", "br", "hr", "h1", "h2", "h3", "h4", "h5", "h6", "strong", "em", "del", "code", "pre", "blockquote", "ul", "ol", "li",
		"table", "thead", "tbody", "tr", "th", "td")
	p.AllowAttrs("start").Matching(bluemonday.Integer).OnElements("ol")
	p.AllowAttrs("class").Matching(regexp.MustCompile(`^language-[a-zA-Z0-9+#-]{1,40}$`)).OnElements("code")
	p.AllowAttrs("align").Matching(bluemonday.CellAlign).OnElements("th", "td")
	p.AllowAttrs("href").OnElements("a")
	p.AllowURLSchemes("https", "http", "mailto", "tel")
	p.AllowRelativeURLs(false)
	p.RequireParseableURLs(true)
	p.RequireNoFollowOnLinks(true)
	p.RequireNoReferrerOnLinks(true)
	p.AddTargetBlankToFullyQualifiedLinks(true)
	return p
}()

// HTML is Markdown as HTML that is safe to show: no scripts, handlers, styles, images, forms or frames, and links to the web,
// to mail and to telephones only, which tell nobody where they were followed. What the text has of HTML is left out. A text
// with more marks than anybody writes is shown as it is.
func HTML(text string) string {
	var b bytes.Buffer
	if costly(text) || markdown.Convert([]byte(text), &b) != nil {
		return "<pre>" + policy.Sanitize(html.EscapeString(text)) + "</pre>"
	}
	return policy.Sanitize(b.String())
}

// What a text may have, for its rendering to take no more than some multiple of its length: the parser looks for the other
// side of each mark, and fills each line of a table.
const (
	maxMarks = 1500
	maxDepth = 20 // quotes and lists that one line begins
	maxCells = 20_000
)

func costly(text string) bool {
	marks, lines, columns := 0, 0, 0
	for line := range strings.Lines(text) {
		lines++
		columns = max(columns, strings.Count(line, "|"))
		body := strings.TrimLeft(line, " \t>-+*.)0123456789")
		lead := line[:len(line)-len(body)]
		depth := strings.Count(lead, ">") + strings.Count(lead, "+ ") + strings.Count(lead, "- ") + strings.Count(lead, "* ") + strings.Count(lead, ". ") + strings.Count(lead, ") ")
		if depth > maxDepth {
			return true
		}
		for i := range len(line) {
			switch line[i] {
			case '*', '_', '~', '[', ']', '|', '<', '`':
				marks++
			}
		}
	}
	return marks > maxMarks || lines*columns > maxCells
}
