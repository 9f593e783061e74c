package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/tandemhq/tandem/internal/tandemtest"
)

var update = flag.Bool("update", false, "write api/openapi.json anew")

// contract is the OpenAPI description of a running hub; answers are held against it.
type contract struct {
	t   testing.TB
	h   *tandemtest.Hub
	doc *openapi3.T
	ops map[string]operation

	mu      sync.Mutex
	seen    map[string]map[int]int // operation -> status -> answers
	checked int
}

type operation struct {
	method, path string
	*openapi3.Operation
}

func newContract(t testing.TB, h *tandemtest.Hub) *contract {
	t.Helper()
	raw := h.Want(http.StatusOK, http.MethodGet, "/api/v1/openapi.json", "", nil).Body
	doc, err := described(t.Context(), raw)
	if err != nil {
		t.Fatal(err)
	}
	c := &contract{t: t, h: h, doc: doc, ops: map[string]operation{}, seen: map[string]map[int]int{}}
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			c.ops[op.OperationID] = operation{method, path, op}
		}
	}
	return c
}

var descriptions struct {
	sync.Mutex
	known map[string]*openapi3.T // by the bytes that a hub served
}

// described reads and validates a description. Nearly all hubs serve the same one, and validating it with all its examples
// takes seconds under the race detector: each is validated once.
func described(ctx context.Context, raw []byte) (*openapi3.T, error) {
	d := &descriptions
	d.Lock()
	defer d.Unlock()
	if doc := d.known[string(raw)]; doc != nil {
		return doc, nil
	}
	doc, err := openapi3.NewLoader().LoadFromData(raw)
	if err != nil {
		return nil, fmt.Errorf("load the OpenAPI description: %w", err)
	}
	if err := doc.Validate(ctx); err != nil {
		return nil, fmt.Errorf("the OpenAPI description is not valid: %w", err)
	}
	if d.known == nil {
		d.known = map[string]*openapi3.T{}
	}
	d.known[string(raw)] = doc
	return doc, nil
}

// aimed is the path of an operation about one record, or about a part of one when id is "record/part".
func aimed(path, id string) string {
	id, part, found := strings.Cut(id, "/")
	if !found {
		part = id
	}
	return strings.NewReplacer("{id}", id, "{field}", "budget", "{n}", "1", "{identity}", part, "/consents/{kind}", "/consents/webhook").Replace(path)
}

// do sends a request of the operation and holds the answer against its description.
// target is what follows the path of the operation: "?limit=2".
func (c *contract) do(op, id, target, key string, in any, header ...string) tandemtest.Answer {
	c.t.Helper()
	o, ok := c.ops[op]
	if !ok {
		c.t.Fatalf("there is no operation %s", op)
	}
	a := c.h.Do(o.method, aimed(o.path, id)+target, key, in, header...)
	if strings.Contains(target, "fields=") && a.Status == http.StatusOK {
		return a // what was not asked for is left out, which no schema can say
	}
	if err := c.hold(op, a); err != nil {
		c.t.Errorf("%s %s%s: %v", op, id, target, err)
	}
	return a
}

// hold says how an answer differs from what is documented.
func (c *contract) hold(op string, a tandemtest.Answer) error {
	c.mu.Lock()
	if c.seen[op] == nil {
		c.seen[op] = map[int]int{}
	}
	c.seen[op][a.Status]++
	c.checked++
	c.mu.Unlock()
	res := c.ops[op].Responses.Value(strconv.Itoa(a.Status))
	if res == nil {
		return fmt.Errorf("the status %d is not documented: %s", a.Status, a.Body)
	}
	for _, name := range []string{"X-Request-Id", "Tandem-Version"} {
		if a.Header.Get(name) == "" || res.Value.Headers[name] == nil {
			return fmt.Errorf("the answer %d has no %s, or its description has none", a.Status, name)
		}
	}
	if a.Status == http.StatusNoContent || a.Status == http.StatusNotModified {
		if len(a.Body) > 0 {
			return fmt.Errorf("a %d with a body: %s", a.Status, a.Body)
		}
		return nil
	}
	if res.Value.Content["*/*"] != nil {
		return nil // the bytes of a file
	}
	ctype := a.Header.Get("Content-Type")
	media := res.Value.Content[ctype]
	if media == nil {
		return fmt.Errorf("the answer %d is %q, which is not documented", a.Status, ctype)
	}
	var v any
	if err := json.Unmarshal(a.Body, &v); err != nil {
		return fmt.Errorf("the answer %d is no JSON: %w", a.Status, err)
	}
	if err := media.Schema.Value.VisitJSON(v, openapi3.EnableJSONSchema2020(), openapi3.MultiErrors()); err != nil {
		return fmt.Errorf("the answer %d does not fit its schema: %w\n%s", a.Status, err, a.Body)
	}
	if a.Status >= http.StatusBadRequest {
		return problemIsWhole(a)
	}
	return nil
}

// problemIsWhole checks what every problem must have.
func problemIsWhole(a tandemtest.Answer) error {
	var p struct {
		Type, Title, Detail string
		Status              int
		RequestID           string `json:"request_id"`
	}
	if err := json.Unmarshal(a.Body, &p); err != nil {
		return fmt.Errorf("a problem that is no JSON: %s", a.Body)
	}
	switch {
	case a.Header.Get("Content-Type") != "application/problem+json":
		return fmt.Errorf("a problem as %q", a.Header.Get("Content-Type"))
	case p.Status != a.Status || !strings.HasPrefix(p.Type, "urn:tandem:problem:") || p.Title == "" || p.Detail == "":
		return fmt.Errorf("a problem that lacks a part: %s", a.Body)
	case p.RequestID == "" || p.RequestID != a.Header.Get("X-Request-Id"):
		return fmt.Errorf("a problem that does not name its request: %s", a.Body)
	case (a.Status == http.StatusTooManyRequests || a.Status == http.StatusServiceUnavailable) && a.Header.Get("Retry-After") == "":
		return fmt.Errorf("a %d without Retry-After", a.Status)
	case a.Status == http.StatusUnauthorized && a.Header.Get("WWW-Authenticate") == "":
		return fmt.Errorf("a 401 without a challenge")
	}
	return nil
}

// The description that web generates its types from is the one that the hub serves.
func TestOpenAPIFile(t *testing.T) {
	t.Parallel()
	h := tandemtest.Start(t, nil)
	raw := h.Want(http.StatusOK, http.MethodGet, "/api/v1/openapi.json", "", nil).Body
	var now bytes.Buffer
	if err := json.Indent(&now, raw, "", "  "); err != nil {
		t.Fatal(err)
	}
	now.WriteByte('\n')
	const file = "openapi.json"
	if *update {
		if err := os.WriteFile(file, now.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	kept, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v; write it with: go test ./api -run TestOpenAPIFile -update", err)
	}
	if !bytes.Equal(kept, now.Bytes()) {
		t.Error("api/openapi.json is not what the hub serves; write it anew with: go test ./api -run TestOpenAPIFile -update")
	}
	c := newContract(t, h)
	var ids []string
	for id, op := range c.ops {
		ids = append(ids, id)
		if op.Summary == "" || op.Description == "" || len(op.Tags) != 1 {
			t.Errorf("%s has no summary, no description or not one tag", id)
			continue
		}
		if tag := c.doc.Tags.Get(op.Tags[0]); tag == nil || tag.Description == "" {
			t.Errorf("the tag %s of %s is described nowhere: add it to tags in api/describe.go", op.Tags[0], id)
		}
	}
	slices.Sort(ids)
	t.Logf("figure: OpenAPI: %d operations, %d schemas", len(ids), len(c.doc.Components.Schemas))
}

// Whatever is answered names the version of the API, refusals and what is no part of the API too.
func TestEveryAnswerNamesTheVersion(t *testing.T) {
	t.Parallel()
	h := tandemtest.Start(t, nil)
	o := h.NewOrg("version")
	for _, c := range []struct {
		status            int
		method, path, key string
	}{
		{200, http.MethodGet, "/api/v1/me", o.Key},
		{401, http.MethodGet, "/api/v1/me", ""},
		{401, http.MethodGet, "/api/v1/me", "tdm_nonsense"},
		{401, http.MethodGet, "/api/v1/live", ""},
		{404, http.MethodGet, "/api/v1/nothing", o.Key},
		{405, http.MethodPut, "/api/v1/me", o.Key},
		{200, http.MethodGet, "/api/v1/openapi.json", ""},
		{404, http.MethodGet, "/api", ""},
		{200, http.MethodGet, "/healthz", ""},
		{200, http.MethodGet, "/metrics", ""},
		{404, http.MethodGet, "/chat/nobody/poll", ""},
	} {
		if a := h.Want(c.status, c.method, c.path, c.key, nil); a.Header.Get("Tandem-Version") != "1.0.0" {
			t.Errorf("%s %s: Tandem-Version is %q", c.method, c.path, a.Header.Get("Tandem-Version"))
		}
	}
	a := h.Want(http.StatusForbidden, http.MethodPost, "/api/v1/contacts", o.Key, `{"name":"Ada"}`, "Sec-Fetch-Site", "cross-site")
	if a.Header.Get("Tandem-Version") == "" {
		t.Error("a request from another site is refused without Tandem-Version")
	}
}
