package api

import (
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/crm"
)

// describe completes the OpenAPI description when every route is registered: what huma cannot read from types, and
// what is the same for all operations.
func (s *server) describe() {
	s.describeLive()
	s.describeNulls()
	s.describeIncluded()
	s.describeBodies()
	s.describeAnswers()
	s.describeTags()
	s.describeExamples()
}

// operations calls fn with every operation of the description, in an order that does not change.
func (s *server) operations(fn func(*huma.Operation)) {
	paths := s.huma.OpenAPI().Paths
	for _, path := range slices.Sorted(maps.Keys(paths)) {
		item := paths[path]
		for _, op := range []*huma.Operation{item.Get, item.Post, item.Put, item.Patch, item.Delete} {
			if op != nil {
				fn(op)
			}
		}
	}
}

// describeLive adds the live stream to the OpenAPI description. Its handler is not a
// typed one, because an answer that never ends has no body to type.
func (s *server) describeLive() {
	op := s.operation(route{method: http.MethodGet, path: "/live", permission: "conversation:read", summary: "Follow what happens, as server-sent events"})
	op.Description += " Events: `hello` with the newest seq, `fact` with an event of the log, `typing`, and `resync` when the client should read everything anew." +
		" Delivery is at least once: apply facts idempotently by their id."
	zero := 0.0
	seq := &huma.Schema{Type: huma.TypeInteger, Format: "int64", Minimum: &zero}
	op.Parameters = []*huma.Param{
		{Name: "Last-Event-ID", In: "header", Description: "The id of the last frame that you have.", Schema: seq},
		{Name: "last_event_id", In: "query", Description: "The same, for clients that can set no header.", Schema: seq},
	}
	fact := s.huma.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[factShape](), true, "Fact")
	op.Responses = map[string]*huma.Response{"200": {
		Description: "A stream that ends when the credentials end.",
		Content: map[string]*huma.MediaType{"text/event-stream": {Schema: &huma.Schema{
			Type: huma.TypeString, Description: "Frames; the data of a `fact` is JSON.",
			Extensions: map[string]any{"contentMediaType": "application/json", "contentSchema": fact},
		}}},
	}}
	for _, status := range op.Errors {
		op.Responses[strconv.Itoa(status)] = &huma.Response{} // describeAnswers says what it is
	}
	s.huma.OpenAPI().AddOperation(&op)
}

// describeNulls says of every field that is always there but may be null that it may be
// null. huma cannot say it of a field whose schema is a reference.
func (s *server) describeNulls() {
	schemas := s.huma.OpenAPI().Components.Schemas
	for name, schema := range schemas.Map() {
		typ := schemas.TypeFromRef("#/components/schemas/" + name)
		if typ == nil || typ.Kind() != reflect.Struct {
			continue
		}
		for _, field := range reflect.VisibleFields(typ) {
			key, options, _ := strings.Cut(field.Tag.Get("json"), ",")
			property := schema.Properties[key]
			if property == nil || property.Ref == "" || field.Type.Kind() != reflect.Pointer || strings.Contains(options, "omitempty") {
				continue
			}
			schema.Properties[key] = &huma.Schema{AnyOf: []*huma.Schema{property, {Type: "null"}}}
		}
	}
}

// describeBodies says what may be written of each kind of record: when it is added, changed, and changed with others.
func (s *server) describeBodies() {
	doc := s.huma.OpenAPI()
	schemas := doc.Components.Schemas.Map()
	for _, r := range crm.All {
		whole, add, change := schemas[r.Row.Name()], schemas["New"+r.Row.Name()], schemas[r.Row.Name()+"Patch"]
		change.Properties = map[string]*huma.Schema{}
		if add == nil { // it is added in a way of its own
			add = &huma.Schema{}
		}
		add.Properties = map[string]*huma.Schema{}
		for _, f := range r.Fields {
			p := whole.Properties[f.Name]
			if p == nil {
				continue
			}
			if t := r.Parts[f.Name]; t != nil {
				p = doc.Components.Schemas.Schema(t, true, "")
			}
			if f.Write {
				change.Properties[f.Name] = p
			}
			if f.Write || f.Once {
				add.Properties[f.Name] = p
			}
			if (f.Write || f.Once) && f.Needed {
				add.Required = append(add.Required, f.Name)
			}
		}
		many := doc.Paths[basePath+r.Path+"/bulk"].Post.RequestBody.Content["application/json"]
		many.Schema = &huma.Schema{AllOf: []*huma.Schema{many.Schema, {Properties: map[string]*huma.Schema{"patch": {Ref: "#/components/schemas/" + r.Row.Name() + "Patch"}}}}}
	}
}

// meanings says of each status above 399 when it is answered, with an example.
var meanings = map[int]struct{ when, kind, detail string }{
	http.StatusBadRequest:            {"The body is no JSON.", "malformed", "Unexpected end of JSON input."},
	http.StatusUnauthorized:          {"There are no credentials, or wrong ones.", "unauthenticated", "Sign in first."},
	http.StatusForbidden:             {"A permission is missing; the detail names it. Or another site's page sent the request.", "forbidden", "You may not do this: it needs the permission lead:write."},
	http.StatusNotFound:              {"There is no such record. What belongs to another organization is answered so too.", "not_found", "There is no such lead."},
	http.StatusRequestTimeout:        {"The body did not arrive in time.", "timeout", "Request body read timeout."},
	http.StatusConflict:              {"The record has changed since you read it, or its state does not allow this.", "conflict", "Somebody else has changed this meanwhile."},
	http.StatusRequestEntityTooLarge: {"The body is too large.", "too_large", "Request body is too large limit=262144 bytes."},
	http.StatusUnsupportedMediaType:  {"The body is not JSON by its Content-Type.", "unsupported_media_type", "Unknown content type: text/plain."},
	http.StatusUnprocessableEntity:   {"A field or a parameter is not right; errors names each.", "invalid", "title: A title is needed."},
	http.StatusTooManyRequests:       {"There were too many requests. Retry-After says when to try again.", "throttled", "Too many leads at once. Try again a little later."},
	http.StatusInternalServerError:   {"A fault of ours; name the request when you report it.", "internal", "Something went wrong on our side."},
	http.StatusServiceUnavailable:    {"Something that Tandem needs is away for a moment. Nothing was done; try again.", "unavailable", "The database does not answer."},
}

// describeAnswers gives every answer the headers that it has, and keeps in one place what each refusal means.
func (s *server) describeAnswers() {
	c := s.huma.OpenAPI().Components
	text := &huma.Schema{Type: huma.TypeString}
	c.Headers = map[string]*huma.Header{
		versionHeader:      {Description: "The version of the API that answers.", Schema: &huma.Schema{Type: huma.TypeString, Examples: []any{Version}}, Required: true},
		"X-Request-Id":     {Description: "The request's id; name it when you report a problem. Facts that it caused carry it as chain_id.", Schema: text, Required: true},
		"Retry-After":      {Description: "After how many seconds to try again.", Schema: &huma.Schema{Type: huma.TypeInteger}, Required: true},
		"WWW-Authenticate": {Description: "How to sign in.", Schema: text, Required: true},
	}
	with := func(headers map[string]*huma.Param, names ...string) map[string]*huma.Param {
		if headers == nil {
			headers = map[string]*huma.Param{}
		}
		for _, name := range append(names, versionHeader, "X-Request-Id") {
			headers[name] = &huma.Param{Ref: "#/components/headers/" + name}
		}
		return headers
	}
	problem := c.Schemas.Schema(reflect.TypeFor[Problem](), true, "Problem")
	c.Responses = map[string]*huma.Response{}
	for status, refusal := range meanings {
		example := newProblem(status, refusal.kind, refusal.detail)
		example.RequestID = exampleID("request")
		if status == http.StatusUnprocessableEntity {
			field, message, _ := strings.Cut(refusal.detail, ": ")
			example.Errors = []tandem.FieldError{{Field: field, Message: message}}
		}
		r := &huma.Response{Description: refusal.when, Headers: with(nil), Content: map[string]*huma.MediaType{
			example.ContentType(""): {Schema: problem, Example: example},
		}}
		switch status {
		case http.StatusUnauthorized:
			r.Headers = with(nil, "WWW-Authenticate")
		case http.StatusTooManyRequests, http.StatusServiceUnavailable:
			r.Headers = with(nil, "Retry-After")
		}
		c.Responses[responseName(status)] = r
	}
	s.operations(func(op *huma.Operation) {
		for code, r := range op.Responses {
			status, _ := strconv.Atoi(code)
			if _, ok := meanings[status]; ok {
				op.Responses[code] = &huma.Response{Ref: "#/components/responses/" + responseName(status)}
				continue
			}
			r.Headers = with(r.Headers)
		}
	})
}

func responseName(status int) string { return strings.ReplaceAll(http.StatusText(status), " ", "") }

// tags says what the operations under each first word of a path are about; those of records are described by crm.
var tags = map[string]string{
	"auth":          "Signing in and out with a session.",
	"boards":        "Boards, with their stages.",
	"channels":      "The channels over which messages come and go.",
	"conversations": "Conversations: their threads, who owns them, and replies.",
	"dead-letters":  "What a part of Tandem could not work off and waits for a person.",
	"handoffs":      "Who asks whom to take a conversation over, and what came of it.",
	"inbound":       "The door for lead forms and other systems.",
	"knowledge":     "Documents from which AI members answer.",
	"live":          "What happens, while it happens.",
	"metrics":       "Numbers about the work: the dashboard.",
	"me":            "Who you are and what you may do.",
	"members":       "Those who work in the organization: people, AI members and external ones.",
	"notifications": "What you are told of: mentions, reminders, and what others make you responsible for.",
	"runs":          "What AI members did, step by step.",
	"stages":        "The stages of boards.",
	"teams":         "Teams and who is in them.",
}

// describeTags lists the tags that operations carry. One that nobody describes is left bare, and a test fails.
func (s *server) describeTags() {
	about := maps.Clone(tags)
	for _, r := range crm.All {
		about[tagOf(r.Path)] = strings.ToUpper(r.Word[:1]) + plural(r.Word)[1:] + ": the verbs of every record, and what they can do besides."
	}
	doc := s.huma.OpenAPI()
	doc.Tags = nil
	s.operations(func(op *huma.Operation) {
		for _, name := range op.Tags {
			if !slices.ContainsFunc(doc.Tags, func(t *huma.Tag) bool { return t.Name == name }) {
				doc.Tags = append(doc.Tags, &huma.Tag{Name: name, Description: about[name]})
			}
		}
	})
}
