package api

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/crm"
)

// listInput is the input of every list of records.
type listInput struct {
	Paging
	Filter map[string]string `query:"filter,deepObject,explode" doc:"filter[field]=value, or filter[field][op]=value with op one of eq, ne, in, lt, lte, gt, gte, has, null."`
	Where  string            `query:"where" maxLength:"8000" doc:"Conditions in groups, as JSON: {\"or\":[{\"field\":\"priority\",\"value\":\"high\"},{\"field\":\"due_at\",\"op\":\"lt\",\"value\":\"2026-11-30T00:00:00Z\"}]}"`
	Sort   string            `query:"sort" maxLength:"100" doc:"A field, with - before it for the greatest first; newest first when empty."`
	Search string            `query:"search" maxLength:"200" doc:"The beginning of a name, where the list can be searched."`
	Total  bool              `query:"total" doc:"Count what matches, up to 10,000."`
	Fields string            `query:"fields" maxLength:"1000" doc:"The fields wanted of each item, with commas between them; id is always there. All when empty."`
	Including

	where *tandem.Where
}

// Including is what else an answer should have.
type Including struct {
	Include string `query:"include" maxLength:"400" doc:"Records that these name, to be given along as included, with commas between them."`
}

type getInput struct {
	ByID
	Including
}

// Resolve implements huma.Resolver: it reads filter[field][op] and where, which no parameter's type can hold.
func (in *listInput) Resolve(ctx huma.Context) []error {
	u := ctx.URL()
	all, wrong := filters(u.Query())
	in.Filter = nil
	if in.Where != "" {
		var w tandem.Where
		d := json.NewDecoder(strings.NewReader(in.Where))
		d.DisallowUnknownFields()
		if err := d.Decode(&w); err != nil || d.More() {
			wrong = append(wrong, &huma.ErrorDetail{Location: "query.where", Message: "This is not a condition as JSON"})
		}
		all = append(all, w)
	}
	if len(all) > 0 {
		in.where = &tandem.Where{And: all}
	}
	return wrong
}

// filters reads filter[field]=value and filter[field][op]=value, in an order that does not change.
func filters(q url.Values) (all []tandem.Where, wrong []error) {
	keys := make([]string, 0, len(q))
	for k := range q {
		if strings.HasPrefix(k, "filter[") {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	for _, k := range keys {
		parts := strings.Split(strings.TrimSuffix(strings.TrimPrefix(k, "filter["), "]"), "][")
		if !strings.HasSuffix(k, "]") || len(parts) > 2 || len(q[k]) != 1 {
			wrong = append(wrong, &huma.ErrorDetail{Location: "query." + k, Message: "Write filter[field]=value or filter[field][op]=value, each once"})
			continue
		}
		w := tandem.Where{Field: parts[0], Value: q.Get(k)}
		if len(parts) == 2 {
			w.Op = parts[1]
		}
		if w.Value != "" || w.Op != "" {
			all = append(all, w)
		}
	}
	return all, wrong
}

func (in *listInput) asked() tandem.Query {
	q := in.query(nil)
	q.Where, q.Sort, q.Search, q.Total = in.where, in.Sort, in.Search, in.Total
	return q
}

// recordInput is a record or a patch as it was sent: its set names wrong fields better than a schema can.
type recordInput struct {
	RawBody []byte `contentType:"application/json"`
}

type patchInput struct {
	ByID
	IfMatch string `header:"If-Match" maxLength:"100" doc:"The version you saw, as an entity tag."`
	RawBody []byte `contentType:"application/json"`
}

// recordOutput is one record; its version is its entity tag.
type recordOutput struct {
	ETag string `header:"ETag" doc:"The record's version; send it as If-Match with a change."`
	Body any
}

// UnmarshalJSON keeps the record as it was written: an answer that is given again is the same to the last digit.
func (o *recordOutput) UnmarshalJSON(b []byte) error {
	var kept struct {
		ETag string
		Body json.RawMessage
	}
	err := json.Unmarshal(b, &kept)
	o.ETag, o.Body = kept.ETag, kept.Body
	return err
}

func tagged(v any) recordOutput {
	out := recordOutput{Body: v}
	if n := versionOf(v); n > 0 {
		out.ETag = strconv.Quote(strconv.FormatInt(n, 10))
	}
	return out
}

// versionOf is a record's version, or 0 when it has none.
func versionOf(v any) int64 {
	if s := reflect.ValueOf(v); s.Kind() == reflect.Struct {
		if n := s.FieldByName("Version"); n.IsValid() && n.CanInt() {
			return n.Int()
		}
	}
	return 0
}

// records registers the verbs of one kind of record.
func (s *server) records(r crm.Resource) {
	one, may := r.Path+"/{id}", func(verb string) string { return r.Noun + ":" + verb }
	item, page := s.schema(r.Row), s.schema(r.Page)

	handleAs(s, route{method: http.MethodGet, path: r.Path, permission: may("read"), summary: "List " + plural(r.Word)}, page, nil,
		func(ctx context.Context, in *listInput) (*recordOutput, error) {
			var out recordOutput
			return &out, s.DB.Read(ctx, func(ctx context.Context, tx pgx.Tx) error {
				page, err := r.List(ctx, tx, in.asked())
				if err != nil {
					return err
				}
				along, err := s.include(ctx, tx, r, in.Include, reflect.ValueOf(page).FieldByName("Items"))
				if err == nil && in.Fields != "" {
					page, err = only(page, r, in.Fields)
				}
				out.Body = accompanied{page, along}
				return err
			})
		})
	handleAs(s, route{method: http.MethodGet, path: one, permission: may("read"), summary: "Get " + article(r.Word)}, item, nil,
		func(ctx context.Context, in *getInput) (*recordOutput, error) {
			var out recordOutput
			return &out, s.DB.Read(ctx, func(ctx context.Context, tx pgx.Tx) error {
				v, err := onID(in.ByID, func(id tandem.ID) (any, error) { return r.Get(ctx, tx, id) })
				if err != nil {
					return err
				}
				out = tagged(v)
				along, err := s.include(ctx, tx, r, in.Include, reflect.ValueOf(v))
				out.Body = accompanied{v, along}
				return err
			})
		})
	if r.Create != nil {
		handleAs(s, route{method: http.MethodPost, path: r.Path, permission: may("write"), summary: "Add " + article(r.Word), status: http.StatusCreated}, item, s.writable(r, true),
			func(ctx context.Context, in *recordInput) (*recordOutput, error) {
				return s.keep(ctx, in, func(ctx context.Context, tx pgx.Tx) (any, error) { return r.Create(ctx, tx, in.RawBody) })
			})
	}
	handleAs(s, route{method: http.MethodPatch, path: one, permission: may("write"), summary: "Change " + article(r.Word)}, item, s.writable(r, false),
		func(ctx context.Context, in *patchInput) (*recordOutput, error) {
			version, err := ifMatch(in.IfMatch)
			if err != nil {
				return nil, err
			}
			return s.keep(ctx, in, func(ctx context.Context, tx pgx.Tx) (any, error) {
				return onID(in.ByID, func(id tandem.ID) (any, error) { return r.Patch(ctx, tx, id, in.RawBody, version) })
			})
		})
	s.bulk(r)
	if r.Archive == nil {
		return
	}
	act(s, route{method: http.MethodDelete, path: one, permission: may("write"), summary: "Archive " + article(r.Word) + "; it can be restored"},
		func(ctx context.Context, tx pgx.Tx, in *versioned) error {
			version, err := ifMatch(in.IfMatch)
			if err != nil {
				return err
			}
			_, err = onID(in.ByID, func(id tandem.ID) (struct{}, error) { return struct{}{}, r.Archive(ctx, tx, id, version) })
			return err
		})
	handleAs(s, route{method: http.MethodPost, path: one + "/restore", permission: may("write"), summary: "Restore an archived " + r.Word}, item, nil,
		func(ctx context.Context, in *ByID) (*recordOutput, error) {
			return s.keep(ctx, in, func(ctx context.Context, tx pgx.Tx) (any, error) {
				return onID(*in, func(id tandem.ID) (any, error) { return r.Restore(ctx, tx, id) })
			})
		})
}

// keep runs a write of a record in one transaction.
func (s *server) keep(ctx context.Context, in any, do func(ctx context.Context, tx pgx.Tx) (any, error)) (*recordOutput, error) {
	var out recordOutput
	err := s.DB.Tx(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
		out, err = once(ctx, tx, in, func() (recordOutput, error) {
			v, err := do(ctx, tx)
			return tagged(v), err
		})
		return err
	})
	return &out, err
}

// handleAs is handle for an answer whose type is known only when the server starts.
func handleAs[I, O any](s *server, r route, answer, asked *huma.Schema, fn func(context.Context, *I) (*O, error)) {
	op := s.operation(r)
	status := strconv.Itoa(max(r.status, http.StatusOK))
	op.Responses = map[string]*huma.Response{status: {
		Description: http.StatusText(max(r.status, http.StatusOK)), Content: map[string]*huma.MediaType{"application/json": {Schema: answer}},
	}}
	if asked != nil {
		op.RequestBody = &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{}}
		op.SkipValidateBody = true
		defer func() { op.RequestBody.Content["application/json"] = &huma.MediaType{Schema: asked} }() // huma describes a raw body as bytes
	}
	huma.Register(s.huma, op, func(ctx context.Context, in *I) (*O, error) {
		out, err := fn(ctx, in)
		if err != nil {
			p := problemOf(ctx, err)
			logFailure(ctx, s.log, p, err)
			return nil, p
		}
		return out, nil
	})
}

func (s *server) schema(t reflect.Type) *huma.Schema {
	return s.huma.OpenAPI().Components.Schemas.Schema(t, true, t.Name())
}

// writable names the schema of what may be written of a record; describeBodies fills it in.
func (s *server) writable(r crm.Resource, create bool) *huma.Schema {
	name := r.Row.Name() + "Patch"
	if create {
		name = "New" + r.Row.Name()
	}
	s.huma.OpenAPI().Components.Schemas.Map()[name] = &huma.Schema{Type: huma.TypeObject, AdditionalProperties: false}
	return &huma.Schema{Ref: "#/components/schemas/" + name}
}

// only cuts the items of a page down to fields.
func only(page any, r crm.Resource, fields string) (any, error) {
	names := strings.Split(fields, ",")
	for _, n := range names {
		if !r.Shows(n) {
			return nil, tandem.InvalidFields(tandem.FieldError{Field: "fields", Message: "A record of this kind has no field " + strconv.Quote(n) + "."})
		}
	}
	b, err := json.Marshal(page)
	if err != nil {
		return nil, err
	}
	var p struct {
		Items []map[string]json.RawMessage `json:"items"`
		Next  string                       `json:"next,omitempty"`
		Total *int                         `json:"total,omitempty"`
	}
	if err := json.Unmarshal(b, &p); err != nil {
		return nil, err
	}
	for _, item := range p.Items {
		for k := range item {
			if k != "id" && !slices.Contains(names, k) {
				delete(item, k)
			}
		}
	}
	return p, nil
}

// plural is the plural of a record's word.
func plural(word string) string {
	switch {
	case strings.HasSuffix(word, "y"):
		return strings.TrimSuffix(word, "y") + "ies"
	case strings.HasSuffix(word, "s"):
		return word + "es"
	}
	return word + "s"
}

// article is a record's word after a or an.
func article(word string) string {
	if strings.ContainsAny(word[:1], "aeiou") {
		return "an " + word
	}
	return "a " + word
}
