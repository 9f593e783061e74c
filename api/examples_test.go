package api_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/crm"
	"github.com/tandemhq/tandem/internal/tandemtest"
)

// Every body that is asked for or answered has an example, and each example is as its schema says.
func TestExamples(t *testing.T) {
	t.Parallel()
	h := tandemtest.Start(t, nil)
	c := newContract(t, h)
	bodies := 0
	hold := func(op, where string, content openapi3.Content) {
		for ctype, media := range content {
			if !strings.Contains(ctype, "json") && ctype != "text/event-stream" {
				continue // a file
			}
			bodies++
			all := []any{}
			if media.Example != nil {
				all = append(all, media.Example)
			}
			for _, e := range media.Examples {
				all = append(all, e.Value.Value)
			}
			if len(all) == 0 {
				t.Errorf("%s: %s of %s has no example", op, where, ctype)
			}
			for _, v := range all {
				if err := media.Schema.Value.VisitJSON(v, openapi3.EnableJSONSchema2020(), openapi3.MultiErrors()); err != nil {
					b, _ := json.Marshal(v)
					t.Errorf("%s: the example of %s does not fit its schema; give the field an `example` tag, or the operation a line in asks of api/examples.go: %v\n%s", op, where, err, b)
				}
			}
		}
	}
	for id, op := range c.ops {
		if op.RequestBody != nil {
			hold(id, "the request", op.RequestBody.Value.Content)
		}
		for status, r := range op.Responses.Map() {
			hold(id, "the answer "+status, r.Value.Content)
		}
	}
	t.Logf("figure: OpenAPI examples: %d bodies, every one as its schema says", bodies)
}

// The examples of requests that add or change a record are done when they are sent, with ids that exist.
func TestExamplesAreAccepted(t *testing.T) {
	t.Parallel()
	h := tandemtest.Start(t, nil)
	c := newContract(t, h)
	w := newWorld(t, h)
	asked := func(op string) string {
		media := c.ops[op].RequestBody.Value.Content["application/json"]
		b, err := json.Marshal(media.Examples["example"].Value.Value)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	w.ids["member"], w.ids["assignee"], w.ids["owner"] = w.ids["colleague"], w.ids["colleague"], w.ids["colleague"]
	w.ids["channel"], w.ids["ai_member"] = w.ids["chat"], w.ids["ai"]
	// real aims the ids of an example at records of this world; an id of nothing here is left out.
	var real func(v any) any
	real = func(v any) any {
		m, ok := v.(map[string]any)
		if !ok {
			return v
		}
		for k, part := range m {
			noun, isID := strings.CutSuffix(k, "_id")
			switch {
			case isID && w.ids[noun] != "":
				m[k] = w.ids[noun]
			case isID && noun != "external":
				delete(m, k)
			default:
				m[k] = real(part)
			}
		}
		return m
	}
	for _, r := range crm.All {
		if r.Create == nil {
			continue // it comes as a file
		}
		op := strings.TrimPrefix(r.Path, "/")
		var body, patch any
		for name, into := range map[string]*any{"post-" + op: &body, "patch-" + op + "-id": &patch} {
			if err := json.Unmarshal([]byte(asked(name)), into); err != nil {
				t.Fatal(err)
			}
		}
		var made struct{ ID tandem.ID }
		a := c.do("post-"+op, "", "", w.Key, real(body))
		if a.Status != http.StatusCreated {
			t.Errorf("the example of post-%s is refused; give it a line in asks of api/examples.go: %s", op, a.Body)
			continue
		}
		a.Into(t, &made)
		if w.ids[r.Noun] == "" {
			w.ids[r.Noun] = string(made.ID)
		}
		if a := c.do("patch-"+op+"-id", string(made.ID), "", w.Key, real(patch)); a.Status != http.StatusOK {
			t.Errorf("the example of patch-%s-id is refused; give it a line in asks of api/examples.go: %s", op, a.Body)
		}
	}
	if a := c.do("post-inbound-lead", "", "", w.Key, asked("post-inbound-lead")); a.Status != http.StatusCreated {
		t.Errorf("the example of post-inbound-lead is refused: %s", a.Body)
	}
}
