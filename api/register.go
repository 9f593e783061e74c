package api

import (
	"context"
	"net/http"
	"regexp"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
)

// route describes one typed endpoint. Its id, its permission and its tag are declared
// here and nowhere else; the permission is checked before the body is read.
type route struct {
	method, path string
	permission   string // "noun:verb"; "" for any signed-in actor; public for everybody
	summary      string
	status       int // of success; 0 means 200
	maxBody      int64
	ownKey       bool // it reads Idempotency-Key by itself
}

// public marks the few routes that need no actor.
const public = "public"

// permissionExtension is where the description of an operation names its permission; it is signedIn for a route that
// every member may use, and public.
const (
	permissionExtension = "x-permission"
	signedIn            = "signed-in"
)

type ctxKey string

const (
	permissionKey ctxKey = "permission"
	ownKeyKey     ctxKey = "own key"
)

func (s *server) operation(r route) huma.Operation {
	op := huma.Operation{
		OperationID:  operationID(r.method, r.path),
		Method:       r.method,
		Path:         basePath + r.path,
		Summary:      r.summary,
		Tags:         []string{tagOf(r.path)},
		Metadata:     map[string]any{string(permissionKey): r.permission, string(ownKeyKey): r.ownKey},
		MaxBodyBytes: r.maxBody,
		Errors: []int{
			http.StatusBadRequest, http.StatusNotFound, http.StatusConflict, http.StatusRequestEntityTooLarge,
			http.StatusUnprocessableEntity, http.StatusTooManyRequests, http.StatusServiceUnavailable,
		},
	}
	if r.method != http.MethodGet { // a foreign page, a body that never ends, a body that is no JSON
		op.Errors = append(op.Errors, http.StatusRequestTimeout, http.StatusUnsupportedMediaType)
	}
	if r.method == http.MethodPost && r.permission != public && !r.ownKey {
		most := maxIdempotencyKey
		op.Parameters = append(op.Parameters, &huma.Param{
			Name: idempotencyKey, In: "header", Schema: &huma.Schema{Type: huma.TypeString, MaxLength: &most},
			Description: "The same request under the same key within a day is done once and answered the same.",
		})
	}
	if op.MaxBodyBytes == 0 {
		op.MaxBodyBytes = 256 << 10
	}
	if r.status != 0 {
		op.DefaultStatus = r.status
	}
	op.Errors = append(op.Errors, http.StatusUnauthorized, http.StatusForbidden)
	op.Security = []map[string][]string{{"session": {}}, {"key": {}}, {"bearer": {}}}
	needs := r.permission
	switch r.permission {
	case public:
		op.Security = []map[string][]string{}
		op.Description = "Needs no credentials."
	case "":
		needs = signedIn
		op.Description = "Every member may, whatever the role."
	default:
		op.Description = "Needs the permission `" + r.permission + "`."
	}
	op.Extensions = map[string]any{permissionExtension: needs}
	return op
}

// handle registers a route whose handler opens its own transactions, or none.
func handle[I, O any](s *server, r route, fn func(context.Context, *I) (*O, error)) {
	huma.Register(s.huma, s.operation(r), func(ctx context.Context, in *I) (*O, error) {
		out, err := fn(ctx, in)
		if err != nil {
			p := problemOf(ctx, err)
			logFailure(ctx, s.log, p, err)
			return nil, p
		}
		return out, nil
	})
}

// read registers a route that runs in one read-only transaction.
func read[I, O any](s *server, r route, fn func(context.Context, pgx.Tx, *I) (O, error)) {
	handle(s, r, func(ctx context.Context, in *I) (*body[O], error) {
		var out body[O]
		err := s.DB.Read(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
			out.Body, err = fn(ctx, tx, in)
			return err
		})
		return &out, err
	})
}

// write registers a route that runs in one transaction: the edge at which a person's intent commits.
func write[I, O any](s *server, r route, fn func(context.Context, pgx.Tx, *I) (O, error)) {
	handle(s, r, func(ctx context.Context, in *I) (*body[O], error) {
		var out body[O]
		err := s.DB.Tx(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
			out.Body, err = once(ctx, tx, in, func() (O, error) { return fn(ctx, tx, in) })
			return err
		})
		return &out, err
	})
}

// act registers a write without an answer.
func act[I any](s *server, r route, fn func(context.Context, pgx.Tx, *I) error) {
	r.status = http.StatusNoContent
	handle(s, r, func(ctx context.Context, in *I) (*struct{}, error) {
		return nil, s.DB.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
			_, err := once(ctx, tx, in, func() (struct{}, error) { return struct{}{}, fn(ctx, tx, in) })
			return err
		})
	})
}

// body is an answer of one JSON document.
type body[T any] struct{ Body T }

// ByID is the input of every route about one record.
type ByID struct {
	ID string `path:"id" doc:"The record's id." maxLength:"64"`
}

func (b ByID) id() (tandem.ID, error) { return tandem.ParseID(b.ID) }

// Paging is the part of a list's input that every list shares.
type Paging struct {
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"50" doc:"How many items at most."`
	Cursor string `query:"cursor" maxLength:"1000" doc:"The next value of the page before."`
}

func (p Paging) query(filter map[string]string) tandem.Query {
	f := make(map[string]string, len(filter))
	for k, v := range filter {
		if v != "" {
			f[k] = v
		}
	}
	return tandem.Query{Filter: f, Cursor: p.Cursor, Limit: p.Limit}
}

var nonWord = regexp.MustCompile(`[^a-z0-9]+`)

func operationID(method, path string) string {
	return strings.Trim(nonWord.ReplaceAllString(strings.ToLower(method+" "+path), "-"), "-")
}

func tagOf(path string) string {
	first, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	return strings.TrimSuffix(first, ".json")
}
