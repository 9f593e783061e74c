package api

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/crm"
)

type bulkInput struct {
	Body struct {
		IDs     []string        `json:"ids" minItems:"1" maxItems:"1000" doc:"The records, each once."`
		Patch   json.RawMessage `json:"patch,omitempty" doc:"What to change in each."`
		Archive bool            `json:"archive,omitempty" doc:"Archive each instead."`
	}
}

// bulkResult says what became of one record.
type bulkResult struct {
	ID      string              `json:"id"`
	Status  int                 `json:"status" doc:"As a request for this record alone would have been answered."`
	Detail  string              `json:"detail,omitempty"`
	Errors  []tandem.FieldError `json:"errors,omitempty"`
	Version int64               `json:"version,omitempty" doc:"The record's version after the change."`
}

type bulkOutput struct {
	Results []bulkResult `json:"results" nullable:"false"`
}

// bulk registers the route that changes or archives up to a thousand records: each is done or refused by itself, all
// that are done commit together.
func (s *server) bulk(r crm.Resource) {
	write(s, route{method: http.MethodPost, path: r.Path + "/bulk", permission: r.Noun + ":write", summary: "Change or archive many " + plural(r.Word), maxBody: 1 << 20},
		func(ctx context.Context, tx pgx.Tx, in *bulkInput) (bulkOutput, error) {
			if err := crm.ByPerson(ctx); err != nil {
				return bulkOutput{}, err
			}
			if (len(in.Body.Patch) > 0) == in.Body.Archive || in.Body.Archive && r.Archive == nil {
				return bulkOutput{}, tandem.InvalidFields(tandem.FieldError{Field: "patch", Message: "Send either patch, or archive where this kind of record can be archived."})
			}
			if sorted := slices.Sorted(slices.Values(in.Body.IDs)); len(slices.Compact(sorted)) < len(in.Body.IDs) {
				return bulkOutput{}, tandem.InvalidFields(tandem.FieldError{Field: "ids", Message: "Name each record once."})
			}
			out := bulkOutput{Results: make([]bulkResult, len(in.Body.IDs))}
			order := make([]int, len(in.Body.IDs))
			for i := range order {
				order[i] = i
			}
			// In the order of the ids, so that two bulk changes of the same records wait for each other instead of locking up.
			slices.SortFunc(order, func(a, b int) int { return strings.Compare(in.Body.IDs[a], in.Body.IDs[b]) })
			for _, i := range order {
				res, err := oneOfBulk(ctx, tx, r, in, tandem.ID(in.Body.IDs[i]))
				if err != nil {
					return out, err
				}
				out.Results[i] = res
			}
			return out, nil
		})
}

// oneOfBulk works on one record inside a savepoint, so that a refusal undoes that one only.
func oneOfBulk(ctx context.Context, tx pgx.Tx, r crm.Resource, in *bulkInput, id tandem.ID) (bulkResult, error) {
	res := bulkResult{ID: string(id), Status: http.StatusOK}
	err := pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error {
		if in.Body.Archive {
			res.Status = http.StatusNoContent
			return r.Archive(ctx, tx, id, nil)
		}
		v, err := r.Patch(ctx, tx, id, in.Body.Patch, nil)
		res.Version = versionOf(v)
		return err
	})
	if err == nil {
		return res, nil
	}
	switch tandem.KindOf(err) {
	case tandem.Invalid, tandem.NotFound, tandem.Conflict, tandem.Forbidden:
		p := problemOf(ctx, err)
		return bulkResult{ID: string(id), Status: p.Status, Detail: p.Detail, Errors: p.Errors}, nil
	}
	return res, err
}
