package api_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/tandemhq/tandem/internal/tandemtest"
)

// randomRequests is how many requests the generated run makes; TANDEM_RANDOM_REQUESTS asks for more.
const randomRequests = 2500

// Requests made from the description, right ones and wrong ones, are never our failure and
// never answered with a status or a body that is not documented. TANDEM_SEED repeats a run.
func TestRandomRequests(t *testing.T) {
	t.Parallel()
	h := tandemtest.Start(t, nil)
	c := newContract(t, h)
	w := newWorld(t, h)
	seed, count := uint64(time.Now().UnixNano()), randomRequests
	if s := os.Getenv("TANDEM_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		seed = n
	}
	if s := os.Getenv("TANDEM_RANDOM_REQUESTS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		count = n
	}
	t.Logf("seed %d", seed)
	g := &generator{Rand: rand.New(rand.NewPCG(seed, 1)), ids: map[string][]string{}}
	for _, id := range w.ids {
		g.learn("", id)
	}
	var file struct{ ID string }
	account := anAccount(t, h, w.Org)
	h.Want(http.StatusCreated, http.MethodPost, "/api/v1/documents?name=a.txt&account_id="+account, w.Key, "words", plain...).Into(t, &file)
	g.learn("documents", file.ID)
	g.learn("accounts", account)
	var ops []string
	for id := range c.ops {
		// Ten failures would close the door to the login for the whole run; the stream never ends.
		if !slices.Contains(streams, id) && id != "post-auth-login" {
			ops = append(ops, id)
		}
	}
	slices.Sort(ops)
	statuses := map[int]int{}
	for i := range count {
		op := ops[g.IntN(len(ops))]
		o := c.ops[op]
		path, query, header, body := g.request(o)
		target := aimed(o.path, path)
		if len(query) > 0 {
			target += "?" + query.Encode()
		}
		key := w.Key
		if g.IntN(10) == 0 {
			key = []string{w.second, w.viewer, "", "tdm_nonsense"}[g.IntN(4)]
		}
		a := h.Do(o.method, target, key, body, header...)
		if err := c.hold(op, a); err != nil {
			t.Errorf("request %d, %s %s %.300v %v: %v", i, o.method, target, body, header, err)
		}
		if a.Status >= http.StatusInternalServerError {
			t.Errorf("request %d, %s %s %.300v %v: status %d: %s", i, o.method, target, body, header, a.Status, a.Body)
		}
		statuses[a.Status]++
		g.take(o, a)
	}
	if statuses[http.StatusOK]+statuses[http.StatusCreated] < count/10 || statuses[http.StatusUnprocessableEntity] == 0 {
		t.Errorf("the requests are not mixed enough to prove anything: %v", statuses)
	}
	t.Logf("figure: generated API requests: %d over %d operations (seed %d), 0 server failures, 0 undocumented answers, by status %v", count, len(ops), seed, statuses)
}

// generator makes requests that fit a schema most of the time.
type generator struct {
	*rand.Rand
	ids map[string][]string // by noun of the path, "" for all
}

func (g *generator) learn(noun, id string) {
	for _, n := range []string{noun, ""} {
		if len(g.ids[n]) < 200 {
			g.ids[n] = append(g.ids[n], id)
		}
	}
}

// take keeps the ids of an answer, so that later requests are about things that exist.
func (g *generator) take(o operation, a tandemtest.Answer) {
	var one struct {
		ID    string
		Items []struct{ ID string }
	}
	if a.Status >= 300 || json.Unmarshal(a.Body, &one) != nil {
		return
	}
	for _, item := range one.Items {
		g.learn(o.Tags[0], item.ID)
	}
	if one.ID != "" {
		g.learn(o.Tags[0], one.ID)
	}
}

func (g *generator) anID(noun string) string {
	known := g.ids[noun]
	if len(known) == 0 || g.IntN(8) == 0 {
		known = g.ids[""]
	}
	if g.IntN(12) == 0 {
		return url.PathEscape(g.text(20))
	}
	return known[g.IntN(len(known))]
}

func (g *generator) request(o operation) (path string, query url.Values, header []string, body any) {
	query = url.Values{}
	for _, p := range o.Parameters {
		v := p.Value
		switch {
		case v.In == "path" && v.Name == "id":
			if path = g.anID(o.Tags[0]); path == "" {
				path = "x"
			}
		case v.In != "path" && (v.Required || g.IntN(3) == 0):
			value := fmt.Sprint(g.value(v.Schema.Value, 0))
			if strings.HasSuffix(v.Name, "_id") {
				value = g.anID("")
			}
			if v.Name == "If-Match" {
				value = strconv.Itoa(g.IntN(4))
			}
			if v.In == "query" {
				query.Set(v.Name, value)
			} else if v.In == "header" {
				header = append(header, v.Name, strings.Map(func(r rune) rune {
					if r < ' ' || r == 0x7f {
						return -1
					}
					return r
				}, value))
			}
		}
	}
	if g.IntN(30) == 0 {
		query.Set(g.text(8), g.text(8))
	}
	if o.RequestBody == nil {
		return path, query, header, nil
	}
	switch g.IntN(40) {
	case 0:
		return path, query, header, g.text(60)
	case 1:
		return path, query, header, nil
	}
	asJSON := o.RequestBody.Value.Content["application/json"]
	if asJSON == nil { // a file
		switch g.IntN(4) {
		case 0:
			return path, query, append(header, plain...), g.text(60)
		case 1:
			return path, query, append(header, formHeader...), form("lead_id", g.anID("leads"), "category", g.text(10), "file="+g.text(30), g.text(60))
		}
		about := []string{"account_id", g.anID("accounts")}
		if strings.HasSuffix(o.OperationID, "-versions") {
			about = nil
		}
		return path, nil, append(header, formHeader...), form(append(about, "file=a.txt", "words "+g.text(60))...)
	}
	b, err := json.Marshal(g.value(asJSON.Schema.Value, 0))
	if err != nil {
		return path, query, header, "{}"
	}
	return path, query, header, string(b)
}

var words = []string{
	"", "a", "Ada", "ada@example.com", "+49 30 901820", "hello there", "EUR", "https://shop.example/x", "ÄÖÜ ß 漢字 🦊", "\x00", "\ufeff", "\u202e", "' OR 1=1 --",
	"<script>alert(1)</script>", "%s%n%x", "../../etc/passwd", "{{7*7}}", "null", "-1", "9223372036854775808", "NaN", "\xff\xfe", "a\nb\tc", "id:* & !(", `"quoted \ text`,
}

func (g *generator) text(most int) string {
	s := words[g.IntN(len(words))]
	if g.IntN(20) == 0 && most > 0 {
		s = strings.Repeat("x", g.IntN(most+2))
	}
	return s
}

// value fits the schema nine times out of ten.
func (g *generator) value(s *openapi3.Schema, depth int) any {
	if depth > 5 {
		return nil
	}
	if g.IntN(15) == 0 {
		return []any{nil, true, -1, 1.5, 1e300, "text", []any{}, map[string]any{}, g.text(10)}[g.IntN(9)]
	}
	if len(s.Enum) > 0 {
		return s.Enum[g.IntN(len(s.Enum))]
	}
	switch {
	case s.Type.Includes("object"):
		out := map[string]any{}
		for name, p := range s.Properties {
			if slices.Contains(s.Required, name) && g.IntN(25) != 0 || g.IntN(2) == 0 {
				out[name] = g.value(p.Value, depth+1)
				if strings.HasSuffix(name, "_id") && g.IntN(4) != 0 {
					out[name] = g.anID("")
				}
				if name == "email" && g.IntN(4) != 0 {
					out[name] = fmt.Sprintf("someone%d@example.com", g.IntN(50))
				}
			}
		}
		if len(s.Properties) == 0 {
			for range g.IntN(4) {
				out[g.text(10)] = g.value(&openapi3.Schema{Type: &openapi3.Types{[]string{"string", "integer", "boolean"}[g.IntN(3)]}}, depth+1)
			}
		}
		if g.IntN(25) == 0 {
			out[g.text(10)] = g.text(10)
		}
		return out
	case s.Type.Includes("array"):
		out := []any{}
		for range g.IntN(4) {
			out = append(out, g.value(s.Items.Value, depth+1))
		}
		return out
	case s.Type.Includes("integer"), s.Type.Includes("number"):
		low := int64(0)
		if s.Min != nil {
			low = int64(*s.Min)
		}
		return []int64{low, low + 1, low + int64(g.IntN(100)), low - 1, 1<<53 + 1, 1<<62 + 3}[g.IntN(6)]
	case s.Type.Includes("boolean"):
		return g.IntN(2) == 0
	}
	most := 40
	if s.MaxLength != nil {
		most = int(min(*s.MaxLength, 3000))
	}
	return g.text(most)
}
