package llm

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

func dialEmbedder(t *testing.T, p *provider, dim int, shorten bool) *remoteEmbedder {
	t.Helper()
	s := EmbedSettings{Settings: p.settings(), Dim: dim, Shorten: shorten}
	tr := newTransport(s.withDefaults())
	tr.sleep = func(context.Context, time.Duration) error { return nil }
	e, err := openEmbedder(s, tr)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestEmbeddingsContract(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, body, code string
		want             string
	}{
		{name: "out of order", body: `{"data":[{"index":1,"embedding":[2,2]},{"index":0,"embedding":[1,1]}]}`, want: "[[1 1] [2 2]]"},
		{name: "without index", body: `{"data":[{"embedding":[1,1]},{"embedding":[2,2]}]}`, want: "[[1 1] [2 2]]"},
		{name: "index repeated", body: `{"data":[{"index":0,"embedding":[1,1]},{"index":0,"embedding":[2,2]}]}`, code: CodeMalformed},
		{name: "index out of range", body: `{"data":[{"index":0,"embedding":[1,1]},{"index":7,"embedding":[2,2]}]}`, code: CodeMalformed},
		{name: "index sometimes", body: `{"data":[{"index":0,"embedding":[1,1]},{"embedding":[2,2]}]}`, code: CodeMalformed},
		{name: "too few", body: `{"data":[{"index":0,"embedding":[1,1]}]}`, code: CodeMalformed},
		{name: "wrong dimension", body: `{"data":[{"index":0,"embedding":[1,1,1]},{"index":1,"embedding":[2,2,2]}]}`, code: CodeDimension},
		{name: "one wrong dimension", body: `{"data":[{"index":0,"embedding":[1,1]},{"index":1,"embedding":[2]}]}`, code: CodeDimension},
		{name: "no direction", body: `{"data":[{"index":0,"embedding":[0,0]},{"index":1,"embedding":[2,2]}]}`, code: CodeMalformed},
		{name: "base64", body: `{"data":[{"index":0,"embedding":"AAAA"},{"index":1,"embedding":"AAAA"}]}`, code: CodeMalformed},
		{name: "error object", body: `{"error":{"message":"no"}}`, code: CodeProvider},
		{name: "empty", body: ``, code: CodeMalformed},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			p := newProvider(t, say(tc.body))
			got, err := dialEmbedder(t, p, 2, false).Embed(t.Context(), []string{"a\nb", "c"})
			if tc.code != "" {
				if e := AsError(err); e == nil || e.Code != tc.code || e.Status != 200 {
					t.Errorf("got %v, %v; want %s", got, err, tc.code)
				}
				return
			}
			if err != nil || fmt.Sprint(got) != tc.want {
				t.Errorf("got %v, %v; want %s", got, err, tc.want)
			}
			if in := p.bodies[0]["input"].([]any); in[0] != "a\nb" || p.bodies[0]["model"] != "m" || p.bodies[0]["dimensions"] != nil {
				t.Errorf("sent %v", p.bodies[0])
			}
		})
	}
}

func TestEmbeddingsGoOutInBatches(t *testing.T) {
	t.Parallel()
	var p *provider
	p = newProvider(t, func(w http.ResponseWriter, _ *http.Request) {
		p.mu.Lock()
		in := p.bodies[len(p.bodies)-1]["input"].([]any)
		p.mu.Unlock()
		var out []string
		for i := len(in) - 1; i >= 0; i-- {
			out = append(out, fmt.Sprintf(`{"index":%d,"embedding":[%s,1]}`, i, in[i]))
		}
		_, _ = io.WriteString(w, `{"data":[`+strings.Join(out, ",")+`]}`)
	})
	texts := make([]string, 150)
	for i := range texts {
		texts[i] = fmt.Sprint(i)
	}
	got, err := dialEmbedder(t, p, 2, true).Embed(t.Context(), texts)
	if err != nil || len(got) != 150 {
		t.Fatal(len(got), err)
	}
	for i, v := range got {
		if v[0] != float32(i) {
			t.Fatalf("text %d got the vector of %v", i, v[0])
		}
	}
	if p.calls.Load() != 3 || p.bodies[0]["dimensions"] != 2.0 {
		t.Errorf("%d requests, dimensions %v", p.calls.Load(), p.bodies[0]["dimensions"])
	}
	if _, err := OpenEmbedder(EmbedSettings{Settings: p.settings()}); err == nil {
		t.Error("an embedder without a dimension opens")
	}
}

func dot(a, b []float32) float64 {
	var s float64
	for i := range a {
		s += float64(a[i]) * float64(b[i])
	}
	return s
}

// The built-in embedder ranks the passage that is about the question first.
func TestHashedNgramsRankRelatedTextsFirst(t *testing.T) {
	t.Parallel()
	passages := []string{
		"Refunds: you can cancel within 30 days of purchase and we refund the full amount to your card.",
		"Shift swaps let two employees trade a shift; a manager approves the trade in the mobile app.",
		"Data is stored in Frankfurt and encrypted at rest. We are certified to ISO 27001.",
		"The calendar integrates with Google Calendar and Outlook, events are synced every minute.",
		"Plans start at 4 euros per employee and month, billed yearly. Support by phone is included.",
		"Our office dog is called Bruno and likes long walks near the river.",
	}
	e := HashedNgrams{}
	vecs, err := e.Embed(t.Context(), passages)
	if err != nil {
		t.Fatal(err)
	}
	for q, want := range map[string]int{
		"Can I get a refund if I cancel?":                       0,
		"how do workers swap shifts":                            1,
		"Where is our data stored, and is it encrypted?":        2,
		"Does it sync with outlook calendars?":                  3,
		"What are your plans, how much per employee a month?":   4,
		"is there a dog in the office":                          5,
		"do you have iso27001 certification for stored data":    2,
		"we need integration with google calender (misspelled)": 3,
	} {
		qv, _ := e.Embed(t.Context(), []string{q})
		best, second := -1, -1
		for i := range vecs {
			if best < 0 || dot(qv[0], vecs[i]) > dot(qv[0], vecs[best]) {
				best, second = i, best
			} else if second < 0 || dot(qv[0], vecs[i]) > dot(qv[0], vecs[second]) {
				second = i
			}
		}
		t.Logf("%-55q best %d (%.2f), next %d (%.2f)", q, best, dot(qv[0], vecs[best]), second, dot(qv[0], vecs[second]))
		if best != want {
			t.Errorf("%q finds passage %d, want %d", q, best, want)
		}
	}
}

func TestHashedNgramsVectors(t *testing.T) {
	t.Parallel()
	e := HashedNgrams{}
	texts := []string{"Scheduling software for teams", "", "!!!", "日本語のテキスト", strings.Repeat("word ", 5000), "the and of"}
	a, _ := e.Embed(t.Context(), texts)
	b, _ := e.Embed(t.Context(), texts)
	for i, v := range a {
		if len(v) != e.Dim() {
			t.Fatalf("dimension %d", len(v))
		}
		if n := dot(v, v); n < 0.9999 || n > 1.0001 {
			t.Errorf("%q has length² %f", clip(texts[i], 20), n)
		}
		if fmt.Sprint(v) != fmt.Sprint(b[i]) {
			t.Errorf("%q differs between two runs", clip(texts[i], 20))
		}
	}
	forms, _ := e.Embed(t.Context(), []string{"schedule", "scheduling", "schedules", "scheduled", "bicycle"})
	for i := 1; i < 4; i++ {
		if s := dot(forms[0], forms[i]); s < 0.95 {
			t.Errorf("form %d of the same word: similarity %.2f", i, s)
		}
	}
	if s := dot(forms[0], forms[4]); s > 0.4 {
		t.Errorf("unrelated words: similarity %.2f", s)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := e.Embed(ctx, texts); AsError(err) == nil {
		t.Error("a canceled embed succeeds")
	}
}
