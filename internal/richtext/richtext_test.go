package richtext

import (
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"
)

// No text of the length of a note takes long, or becomes much more than it was.
func TestCostlyTexts(t *testing.T) {
	t.Parallel()
	texts := map[string]string{
		"quotes": strings.Repeat(">", 50000), "quotes lines": strings.Repeat("> > > > > > > > > > > > > > > > > > > > > > > > > > > > > > > > > > > > > >\n", 600), "brackets": strings.Repeat("[", 50000), "bracket pairs": strings.Repeat("[](", 16000), "links": strings.Repeat("[a](", 12000), "links2": strings.Repeat("![[]()", 8000),
		"stars": strings.Repeat("*a", 25000), "stars2": strings.Repeat("*a_ ", 12500), "stars3": strings.Repeat("**", 25000), "ticks": strings.Repeat("`", 50000), "ticks2": func() string {
			var b strings.Builder
			for i := 1; b.Len() < 49000; i++ {
				b.WriteString("e" + strings.Repeat("`", i))
			}
			return b.String()
		}(),
		"lists": strings.Repeat("- ", 25000), "lists2": strings.Repeat("1. ", 16000), "nested lists": func() string {
			var b strings.Builder
			for i := 0; b.Len() < 49000; i++ {
				b.WriteString(strings.Repeat("  ", i) + "- x\n")
			}
			return b.String()
		}(),
		"tables": "|" + strings.Repeat("a|", 10000) + "\n|" + strings.Repeat("-|", 10000) + "\n" + strings.Repeat("|\n", 4000), "urls": strings.Repeat("http://a", 6000), "www": strings.Repeat("www.", 12000), "mails": strings.Repeat("a@b.", 12000), "html": strings.Repeat("<a ", 16000), "comments": strings.Repeat("<!--", 12000), "refs": strings.Repeat("[a]: b\n", 7000), "refs use": strings.Repeat("[a]: b\n[a] ", 4500), "tildes": strings.Repeat("~~a ", 12500), "entities": strings.Repeat("&amp;", 10000), "words": strings.Repeat("word *em* ", 5000), "parens": "[a](" + strings.Repeat("(", 49000), "attrs": "# a {" + strings.Repeat("a=b ", 12000) + "}", "hr": strings.Repeat("---\n", 12000), "long rule": strings.Repeat("-", 50000), "indent": strings.Repeat(" ", 49999) + "x", "tabs": strings.Repeat("\t>", 25000), "setext": strings.Repeat("a\n", 20000) + "===", "del pairs": strings.Repeat("~a~", 16000), "lt": strings.Repeat("<", 50000), "bang": strings.Repeat("![", 25000),
	}
	var worst time.Duration
	for name, s := range texts {
		start := time.Now()
		out := HTML(s)
		took := time.Since(start)
		worst = max(worst, took)
		if took > 5*time.Second || len(out) > 20*len(s) {
			t.Errorf("%s: %d bytes became %d in %v", name, len(s), len(out), took)
		}
	}
	t.Logf("figure: rich text: the costliest of %d hostile texts of 50,000 characters took %v", len(texts), worst)
}

func TestMarkdown(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"She **knows** _engines_.\nReally.":    "<p>She <strong>knows</strong> <em>engines</em>.<br>\nReally.</p>\n",
		"# Plan\n\n1. one\n2. two\n":           "<h1>Plan</h1>\n<ol>\n<li>one</li>\n<li>two</li>\n</ol>\n",
		"[site](https://example.com/?a=1&b=2)": `<p><a href="https://example.com/?a=1&amp;b=2" rel="nofollow noreferrer noopener" target="_blank">site</a></p>` + "\n",
		"see https://example.com":              `<p>see <a href="https://example.com" rel="nofollow noreferrer noopener" target="_blank">https://example.com</a></p>` + "\n",
		"mail ada@example.com":                 `<p>mail <a href="mailto:ada@example.com" rel="nofollow noreferrer">ada@example.com</a></p>` + "\n",
		"```go\na < b && c\n```":               "<pre><code class=\"language-go\">a &lt; b &amp;&amp; c\n</code></pre>\n",
		"|a|b|\n|:-|-|\n|1|2|":                 "<table>\n<thead>\n<tr>\n<th>a</th>\n<th>b</th>\n</tr>\n</thead>\n<tbody>\n<tr>\n<td>1</td>\n<td>2</td>\n</tr>\n</tbody>\n</table>\n",
		"~~no~~ > yes":                         "<p><del>no</del> &gt; yes</p>\n",
		"1 < 2 & \"so\"":                       "<p>1 &lt; 2 &amp; &#34;so&#34;</p>\n",
	} {
		if got := HTML(text); got != want {
			t.Errorf("%q\n became %q\n    want %q", text, got, want)
		}
	}
}

// hostile are texts that would act in a reader's browser if they got there as they are.
func hostile() (all []string) {
	for _, scheme := range []string{
		"javascript:alert(1)", "JaVaScRiPt:alert(1)", " javascript:alert(1)", "java\tscript:alert(1)", "java\nscript:alert(1)", "&#106;avascript:alert(1)", "&#x6a;avascript:alert(1)", "javascript&colon;alert(1)",
		"javascript&#58;alert(1)", "\x01javascript:alert(1)", "vbscript:msgbox(1)", "data:text/html,<script>alert(1)</script>", "data:text/html;base64,PHNjcmlwdD4=", "data:image/svg+xml,<svg onload=alert(1)>", "file:///etc/passwd",
		"blob:https://example.com/1", "filesystem:https://example.com/1", "view-source:https://example.com", "//evil.example/x", "javascript://example.com/%0aalert(1)", "%6aavascript:alert(1)", "feed:javascript:alert(1)", "jar:javascript:alert(1)!/",
		"livescript:alert(1)", "mocha:alert(1)", "ws://example.com", "about:blank", "javas\u200bcript:alert(1)", "\ufeffjavascript:alert(1)",
	} {
		all = append(all, "[a]("+scheme+")", "[a](<"+scheme+">)", "<"+scheme+">", "![a]("+scheme+")", "[a][1]\n\n[1]: "+scheme, `<a href="`+scheme+`">a</a>`)
	}
	for _, raw := range []string{
		"<script>alert(1)</script>", "<SCRIPT SRC=//evil.example></SCRIPT>", "<scr<script>ipt>alert(1)</scr</script>ipt>", "<script\n>alert(1)</script>", "<script/x>alert(1)</script>", "<svg onload=alert(1)>", "<svg><script>alert(1)</script></svg>",
		"<svg><animate onbegin=alert(1)></svg>", "<svg><a xlink:href=javascript:alert(1)>x</a></svg>", "<math><mtext><script>alert(1)</script></mtext></math>", "<math href=javascript:alert(1)>x</math>", "<img src=x onerror=alert(1)>",
		"<img src=https://evil.example/track.gif>", "<img src=`javascript:alert(1)`>", `<img """><script>alert(1)</script>">`, "<body onload=alert(1)>", "<iframe src=https://evil.example></iframe>", "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
		"<object data=evil.swf></object>", "<embed src=evil.swf>", "<applet code=x></applet>", "<base href=//evil.example/>", "<meta http-equiv=refresh content='0;url=//evil.example'>", "<link rel=stylesheet href=//evil.example/x.css>",
		"<style>@import '//evil.example';</style>", "<p style='background:url(javascript:alert(1))'>x</p>", "<div style=position:fixed;inset:0>x</div>", "<form action=//evil.example><input name=password></form>", "<button formaction=javascript:alert(1)>x</button>",
		"<input onfocus=alert(1) autofocus>", "<textarea autofocus onfocus=alert(1)>", "<select onchange=alert(1)>", "<details open ontoggle=alert(1)>", "<video src=x onerror=alert(1)>", "<audio src=x onerror=alert(1)>", "<marquee onstart=alert(1)>", "<keygen autofocus onfocus=alert(1)>",
		"<template><script>alert(1)</script></template>", "<noscript><p title='</noscript><img src=x onerror=alert(1)>'>", "<!--<img src='--><img src=x onerror=alert(1)>'>", "<![CDATA[<script>alert(1)</script>]]>", "<?xml version='1.0'?><script>alert(1)</script>", "<!DOCTYPE html [<!ENTITY x 'y'>]>",
		"<title><img src=x onerror=alert(1)></title>", "<a href='#' onclick=alert(1)>x</a>", "<a\x00 href=javascript:alert(1)>x</a>", "<p id=x class=y name=z>x</p>", "<custom-element onclick=alert(1)>", "<x onmouseover=alert(1)>x</x>", "<isindex action=javascript:alert(1)>", "<frameset onload=alert(1)>",
		"**<b onclick=alert(1)>x</b>**", "`<script>alert(1)</script>`", "    <script>alert(1)</script>", "```\n<script>alert(1)</script>\n```", "```\"onmouseover=alert(1)\n```", "```a\" onload=\"alert(1)\n```", "# <script>alert(1)</script>", "> <svg onload=alert(1)>", "- <svg onload=alert(1)>",
		"|<script>alert(1)</script>|\n|-|\n|<svg onload=alert(1)>|", `[a](https://example.com "x\" onmouseover=\"alert(1)")`, `[a](https://example.com' onclick='alert(1))`, `[<img src=x onerror=alert(1)>](https://example.com)`, `![<img src=x onerror=alert(1)>](https://example.com)`,
		"# x {onclick=alert(1)}", "&lt;script&gt;alert(1)&lt;/script&gt;", "&#60;script&#62;alert(1)", "\u003cscript\u003ealert(1)", "%3Cscript%3Ealert(1)", "+ADw-script+AD4-alert(1)+ADw-/script+AD4-", "\xc0\xbcscript\xc0\xbe", "\xff<script>alert(1)</script>", "<scrıpt>alert(1)</scrıpt>", "＜script＞alert(1)",
		"<a href=https://example.com target=_self rel=opener>x</a>", "https://example.com/\"onmouseover=alert(1)", "https://example.com/<script>", "<https://example.com/\"onclick=alert(1)>", "<script>" + strings.Repeat("x", 100), strings.Repeat("*", 2000) + "<script>alert(1)</script>", strings.Repeat("> ", 40) + "<svg onload=alert(1)>",
	} {
		all = append(all, raw, "x "+raw+" y")
	}
	return all
}

var (
	elements = strings.Fields("html head body p br hr h1 h2 h3 h4 h5 h6 strong em del code pre blockquote ul ol li table thead tbody tr th td a")
	address  = regexp.MustCompile(`^(https?://|mailto:|tel:)`)
)

// SEC-7: whatever is written, a browser that reads the HTML finds nothing that acts or loads; cleaning it again changes nothing.
func TestNothingHostileIsShown(t *testing.T) {
	t.Parallel()
	all := hostile()
	if len(all) < 100 {
		t.Fatalf("only %d hostile texts", len(all))
	}
	for _, text := range all {
		out := HTML(text)
		if again := policy.Sanitize(out); again != out {
			t.Errorf("%q: cleaned again\n %q is\n %q", text, out, again)
		}
		root, err := html.Parse(strings.NewReader(out))
		if err != nil {
			t.Fatal(err)
		}
		for n := range root.Descendants() {
			switch {
			case n.Type == html.TextNode || n.Type == html.DocumentNode:
				continue
			case n.Type != html.ElementNode || n.Namespace != "" || !slices.Contains(elements, n.Data):
				t.Errorf("%q has %v <%s>: %s", text, n.Type, n.Data, out)
			}
			for _, a := range n.Attr {
				ok := n.Data == "a" && (a.Key == "href" && address.MatchString(a.Val) || a.Key == "rel" && strings.Contains(a.Val, "nofollow") || a.Key == "target" && a.Val == "_blank") ||
					n.Data == "code" && a.Key == "class" || n.Data == "ol" && a.Key == "start" || (n.Data == "td" || n.Data == "th") && a.Key == "align"
				if !ok {
					t.Errorf("%q has <%s %s=%q>: %s", text, n.Data, a.Key, a.Val, out)
				}
			}
		}
	}
	t.Logf("figure: SEC-7: %d hostile texts, nothing that acts or loads", len(all))
}
