package api

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/crm"
	"github.com/tandemhq/tandem/inbox"
	"github.com/tandemhq/tandem/team"
)

// included are the records that an answer names, by noun and by id. One that is archived, or is not the reader's to see, is
// not in it.
type included map[string]map[tandem.ID]any

// loader reads up to 1,000 records of a noun by their ids.
type loader struct {
	row  reflect.Type
	some func(ctx context.Context, tx pgx.Tx, ids []tandem.ID) (map[tandem.ID]any, error)
}

const maxIncluded = 1000 // ids in one question to the database

// loaders are the nouns that can be included: every record that crm lists, members and channels.
func (s *server) loaders() map[string]loader {
	all := map[string]loader{
		"member": {reflect.TypeFor[team.Member](), func(ctx context.Context, tx pgx.Tx, ids []tandem.ID) (map[tandem.ID]any, error) {
			return crm.Some(ctx, tx, team.Members.List, ids)
		}},
		"channel": {reflect.TypeFor[inbox.Channel](), func(ctx context.Context, tx pgx.Tx, ids []tandem.ID) (map[tandem.ID]any, error) {
			return crm.Some(ctx, tx, s.Inbox.Channels.List, ids)
		}},
	}
	for _, r := range crm.All {
		all[r.Noun] = loader{r.Row, r.Some}
	}
	return all
}

// includable are the relations of a record whose other side can be included.
func (s *server) includable(r crm.Resource) []crm.Relation {
	loaders := s.loaders()
	return slices.DeleteFunc(slices.Clone(r.Relations), func(rel crm.Relation) bool { return loaders[rel.Noun].some == nil })
}

// include reads what records, a value or a slice of them, name by the relations that names lists with commas between them:
// one question for each noun, never one for each record. Nothing asked for is nil.
func (s *server) include(ctx context.Context, tx pgx.Tx, r crm.Resource, names string, records reflect.Value) (included, error) {
	if names == "" {
		return nil, nil
	}
	can := s.includable(r)
	wanted := map[string][]tandem.ID{}
	for name := range strings.SplitSeq(names, ",") {
		i := slices.IndexFunc(can, func(rel crm.Relation) bool { return rel.Name == name })
		if i < 0 {
			return nil, tandem.InvalidFields(tandem.FieldError{Field: "include", Message: "A record of this kind names no " + strconv.Quote(tandem.Clip(name, 40)) + includes(can)})
		}
		noun := can[i].Noun
		wanted[noun] = append(wanted[noun], idsOf(can[i], records)...)
	}
	out, loaders := included{}, s.loaders()
	for noun, ids := range wanted {
		out[noun] = map[tandem.ID]any{}
		slices.Sort(ids)
		ids = slices.Compact(ids)
		if len(ids) == 0 { // the permission is asked all the same
			ids = []tandem.ID{tandem.NewID()}
		}
		for part := range slices.Chunk(ids, maxIncluded) {
			got, err := loaders[noun].some(ctx, tx, part)
			if err != nil {
				return nil, err
			}
			maps.Copy(out[noun], got)
		}
	}
	return out, nil
}

func includes(can []crm.Relation) string {
	names := make([]string, len(can))
	for i, rel := range can {
		names[i] = rel.Name
	}
	if len(names) == 0 {
		return "."
	}
	return "; it has " + strings.Join(names, ", ") + "."
}

func idsOf(rel crm.Relation, records reflect.Value) (ids []tandem.ID) {
	if records.Kind() != reflect.Slice {
		if id := rel.ID(records); id != "" {
			ids = append(ids, id)
		}
		return ids
	}
	for i := range records.Len() {
		if id := rel.ID(records.Index(i)); id != "" {
			ids = append(ids, id)
		}
	}
	return ids
}

// accompanied is an answer with what it names beside it, as one more member of its object.
type accompanied struct {
	answer any
	included
}

// MarshalJSON adds the member to the answer's own.
func (w accompanied) MarshalJSON() ([]byte, error) {
	b, err := json.Marshal(w.answer)
	if err != nil || w.included == nil {
		return b, err
	}
	more, err := json.Marshal(w.included)
	if err != nil {
		return nil, err
	}
	return slices.Concat(bytes.TrimSuffix(b, []byte("}")), []byte(`,"included":`), more, []byte("}")), nil
}

// describeIncluded tells of included in the answers of the records' lists and gets. It comes when the records' own schemas
// are as they will be.
func (s *server) describeIncluded() {
	api, loaders := s.huma.OpenAPI(), s.loaders()
	for _, r := range crm.All {
		can := s.includable(r)
		if len(can) == 0 {
			continue
		}
		nouns := &huma.Schema{Type: huma.TypeObject, AdditionalProperties: false, Properties: map[string]*huma.Schema{}, Description: "What the records name, by noun and id: only what include asks for, and of that what you may see."}
		for _, rel := range can {
			nouns.Properties[rel.Noun] = &huma.Schema{Type: huma.TypeObject, AdditionalProperties: s.schema(loaders[rel.Noun].row)}
		}
		for _, path := range []string{r.Path, r.Path + "/{id}"} {
			op := api.Paths[basePath+path].Get
			media := op.Responses[strconv.Itoa(http.StatusOK)].Content["application/json"]
			whole := api.Components.Schemas.SchemaFromRef(media.Schema.Ref)
			if path == r.Path { // nothing else answers with a page of these
				whole.Properties["included"] = nouns
			} else {
				one := *whole
				one.Properties = maps.Clone(whole.Properties)
				one.Properties["included"] = nouns
				media.Schema = &one
			}
			for _, p := range op.Parameters {
				if p.Name == "include" {
					p.Description += " Of these: " + strings.TrimPrefix(includes(can), "; it has ")
				}
			}
		}
	}
}
