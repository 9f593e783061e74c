package api

import (
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

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
	op.Responses = map[string]*huma.Response{"200": {
		Description: "A stream that ends when the credentials end.",
		Content:     map[string]*huma.MediaType{"text/event-stream": {Schema: &huma.Schema{Type: huma.TypeString}}},
	}}
	s.huma.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[factShape](), true, "Fact")
	problem := s.huma.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[Problem](), true, "Problem")
	slices.Sort(op.Errors)
	for _, status := range op.Errors {
		op.Responses[strconv.Itoa(status)] = &huma.Response{
			Description: http.StatusText(status), Content: map[string]*huma.MediaType{"application/problem+json": {Schema: problem}},
		}
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
