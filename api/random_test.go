package api_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/tandemhq/tandem/crm"
	"github.com/tandemhq/tandem/internal/pg/pgtest"
	"github.com/tandemhq/tandem/internal/proof"
	"github.com/tandemhq/tandem/internal/record"
	"github.com/tandemhq/tandem/internal/tandemtest"
)

// Requests made from the description, right ones and wrong ones, are never our failure and
// never answered with a status or a body that is not documented, and none of them reaches another organization, whose ids
// are among those that they name. proof.EnvSeed repeats a run.
func TestRandomRequests(t *testing.T) {
	t.Parallel()
	h := tandemtest.Start(t, nil)
	c := newContract(t, h)
	w := newWorld(t, h)
	victim := h.NewOrg(victimMark)
	foreign := furnish(t, h, victim)
	super := pgtest.Connect(t, h.DB, pgtest.Super)
	before := checksums(t, super, victim.ID)
	w.learn(t, scenario{op: "post-inbound-lead"}, c.do("post-inbound-lead", "", "", w.Key, `{"message":"Hello","contact":{"name":"Ada Lovelace","email":"ada@example.com"}}`))
	w.ids["member"], w.ids["assignee"], w.ids["channel"], w.ids["ai_member"] = w.ids["colleague"], w.ids["colleague"], w.ids["chat"], w.ids["ai"]
	began, count := time.Now(), proof.Size(2500, 20000)
	g := &generator{Rand: proof.Rand(t), ids: map[string][]string{}, world: w.ids, cursors: map[string]string{}, fields: map[string]openapi3.Schemas{}}
	for _, id := range w.ids {
		g.learn("", id)
	}
	for _, id := range foreign {
		g.learn("", string(id))
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
	for _, id := range ops {
		g.fields[id] = itemFields(c.ops[id])
	}
	statuses, used := map[int]int{}, map[string]int{}
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
		if err := c.hold(op, a); err != nil && (a.Status != http.StatusOK || query.Get("fields") == "") {
			t.Errorf("request %d, %s %s %.300v %v: %v", i, o.method, target, body, header, err)
		}
		if a.Status >= http.StatusInternalServerError {
			t.Errorf("request %d, %s %s %.300v %v: status %d: %s", i, o.method, target, body, header, a.Status, a.Body)
		}
		if strings.Contains(string(a.Body), victimMark) {
			t.Errorf("request %d, %s %s %.300v: the answer has a word of the other organization: %s", i, o.method, target, body, a.Body)
		}
		statuses[a.Status]++
		if a.Status < 300 {
			for name := range query {
				used[strings.SplitN(name, "[", 2)[0]]++
			}
			if strings.HasSuffix(op, "-bulk") {
				used["bulk"]++
			}
		}
		g.take(op, o, a)
	}
	after := checksums(t, super, victim.ID)
	for table, sum := range before {
		if after[table] != sum {
			t.Errorf("the table %s of the other organization has changed", table)
		}
	}
	if statuses[http.StatusOK]+statuses[http.StatusCreated] < count/10 || statuses[http.StatusUnprocessableEntity] == 0 {
		t.Errorf("the requests are not mixed enough to prove anything: %v", statuses)
	}
	for _, name := range []string{"filter", "where", "sort", "fields", "cursor", "total", "search", "bulk"} {
		if used[name] == 0 {
			t.Errorf("no request with %s was answered well: the generator does not reach it", name)
		}
	}
	proof.Figure(t, "SEC-1", "%d generated requests over %d operations in %s: 0 server failures, 0 undocumented answers, %d tables of another organization unchanged; by status %v; well answered with %v",
		count, len(ops), time.Since(began).Round(time.Second), len(before), statuses, used)
}

// itemFields are the fields of what a list answers, nil when the operation is no list.
func itemFields(o operation) openapi3.Schemas {
	res := o.Responses.Value("200")
	if res == nil || o.method != http.MethodGet || res.Value.Content["application/json"] == nil {
		return nil
	}
	items := res.Value.Content["application/json"].Schema.Value.Properties["items"]
	if items == nil || items.Value.Items == nil {
		return nil
	}
	return items.Value.Items.Value.Properties
}

// generator makes requests that fit a schema most of the time.
type generator struct {
	*rand.Rand
	ids     map[string][]string         // by noun of the path, "" for all
	world   map[string]string           // an id of each kind
	cursors map[string]string           // by operation
	fields  map[string]openapi3.Schemas // of a list's items, by operation
	noun    string                      // of the request that is made
}

func (g *generator) learn(noun, id string) {
	for _, n := range []string{noun, ""} {
		if len(g.ids[n]) < 200 {
			g.ids[n] = append(g.ids[n], id)
		}
	}
}

// take keeps the ids of an answer, so that later requests are about things that exist.
func (g *generator) take(op string, o operation, a tandemtest.Answer) {
	var one struct {
		ID, Next string
		Items    []struct{ ID string }
	}
	if a.Status >= 300 || json.Unmarshal(a.Body, &one) != nil {
		return
	}
	g.cursors[op] = one.Next
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
			if v.Style == openapi3.SerializationDeepObject {
				g.filters(o, query)
				continue
			}
			value := fmt.Sprint(g.value(v.Schema.Value, 0))
			if known := g.parameter(o, v.Name); known != "" && g.IntN(8) != 0 {
				value = known
			}
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
	g.noun = o.Tags[0]
	switch g.IntN(40) {
	case 0:
		return path, query, header, g.text(60)
	case 1:
		return path, query, header, nil
	}
	media := o.RequestBody.Value.Content["application/json"]
	if media == nil { // a file
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
	made := g.value(media.Schema.Value, 0)
	if e := media.Examples["example"]; e != nil && g.IntN(2) == 0 {
		made = g.aimed(e.Value.Value)
	}
	b, err := json.Marshal(made)
	if err != nil {
		return path, query, header, "{}"
	}
	return path, query, header, string(b)
}

// aimed is an example with ids of this world in it, and now and then another value.
func (g *generator) aimed(v any) any {
	m, ok := v.(map[string]any)
	if !ok {
		return v
	}
	out := map[string]any{}
	for _, k := range slices.Sorted(maps.Keys(m)) {
		noun, isID := strings.CutSuffix(k, "_id")
		switch {
		case g.IntN(12) == 0:
			out[k] = g.text(20)
		case k == "ids":
			out[k] = []string{g.anID(g.noun)}
		case k == "email" || k == "name" || k == "domain":
			out[k] = fmt.Sprintf("s%d@example.com", g.IntN(1_000_000))
		case isID && g.world[noun] != "":
			out[k] = g.world[noun]
		default:
			out[k] = g.aimed(m[k])
		}
	}
	return out
}

var operators = []string{"eq", "ne", "in", "lt", "lte", "gt", "gte", "has", "null"}

// aField is the name of a field of the list's items, most of the time one that use allows, and a value for it.
func (g *generator) aField(o operation, use func(record.Field) bool) (name, value string) {
	fields := g.fields[o.OperationID]
	if len(fields) == 0 || g.IntN(20) == 0 {
		return g.text(10), g.text(10)
	}
	names := slices.Sorted(maps.Keys(fields))
	for _, r := range crm.All {
		if use != nil && strings.HasSuffix(o.path, r.Path) && g.IntN(5) != 0 {
			names = []string{"created_at"}
			for _, f := range r.Fields {
				if use(f) {
					names = append(names, f.Name)
				}
			}
		}
	}
	name = names[g.IntN(len(names))]
	value = g.text(10)
	if f := fields[name]; f != nil {
		value = fmt.Sprint(g.value(f.Value, 3))
	}
	if strings.HasSuffix(name, "id") && g.IntN(4) != 0 {
		value = g.anID("")
	}
	if strings.HasSuffix(name, "_at") && g.IntN(4) != 0 {
		value = time.Now().UTC().Add(time.Duration(g.IntN(200)-100) * time.Hour).Format(time.RFC3339)
	}
	return name, value
}

func filtered(f record.Field) bool { return f.Filter }

// filters adds conditions as filter[field]=value and filter[field][op]=value.
func (g *generator) filters(o operation, query url.Values) {
	for range 1 + g.IntN(2) {
		name, value := g.aField(o, filtered)
		key := "filter[" + name + "]"
		if g.IntN(2) == 0 {
			op := operators[g.IntN(len(operators))]
			key += "[" + op + "]"
			if op == "null" {
				value = []string{"true", "false"}[g.IntN(2)]
			}
		}
		query.Set(key, value)
	}
}

// condition is what the parameter where takes.
func (g *generator) condition(o operation, depth int) map[string]any {
	if depth > 2 || g.IntN(2) == 0 {
		name, value := g.aField(o, filtered)
		out := map[string]any{"field": name, "value": value}
		if g.IntN(2) == 0 {
			out["op"] = operators[g.IntN(len(operators))]
		}
		return out
	}
	parts := []any{}
	for range g.IntN(4) {
		parts = append(parts, g.condition(o, depth+1))
	}
	return map[string]any{[]string{"and", "or"}[g.IntN(2)]: parts}
}

// parameter is a value that the lists understand under a name that they share, "" for any other.
func (g *generator) parameter(o operation, name string) string {
	switch name {
	case "where":
		b, err := json.Marshal(g.condition(o, 0))
		if err != nil {
			return "{}"
		}
		return string(b)
	case "sort":
		field, _ := g.aField(o, func(f record.Field) bool { return f.Sort != "" })
		return []string{"", "-"}[g.IntN(2)] + field
	case "fields":
		field, _ := g.aField(o, nil)
		other, _ := g.aField(o, nil)
		return field + "," + other
	case "cursor":
		return g.cursors[o.OperationID]
	case "search":
		return []string{"a", "ada", "Two", "x"}[g.IntN(4)]
	}
	return ""
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
	if len(s.AnyOf) > 0 {
		return g.value(s.AnyOf[g.IntN(len(s.AnyOf))].Value, depth)
	}
	if len(s.AllOf) > 0 {
		all := &openapi3.Schema{Type: &openapi3.Types{"object"}, Properties: openapi3.Schemas{}}
		for _, part := range s.AllOf {
			maps.Copy(all.Properties, part.Value.Properties)
			all.Required = append(all.Required, part.Value.Required...)
		}
		s = all
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
				if name == "ids" && g.IntN(8) != 0 {
					out[name] = []string{g.anID(g.noun), g.anID("")}
				}
				if p.Value.Format == "date-time" && g.IntN(4) != 0 {
					out[name] = time.Now().UTC().Add(time.Duration(g.IntN(2000)-500) * time.Hour).Format(time.RFC3339)
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
