package api

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
)

// idempotencyKey is the header by which a client says that two POSTs are one
// (https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/).
const idempotencyKey = "Idempotency-Key"

const maxIdempotencyKey = 200

type onceKey struct{}

// oncePer is one request that named a key.
type oncePer struct{ key, route string }

// keyed remembers the key of a POST for the transaction that will do it.
func keyed(ctx huma.Context, next func(huma.Context)) {
	own, _ := ctx.Operation().Metadata[string(ownKeyKey)].(bool)
	if key := ctx.Header(idempotencyKey); key != "" && ctx.Method() == http.MethodPost && !own {
		ctx = huma.WithValue(ctx, onceKey{}, oncePer{key, ctx.Operation().OperationID})
	}
	next(ctx)
}

const (
	// Old keys go whenever new ones come, so that the table stays about a day long.
	sqlForgetKeys = `
DELETE FROM idempotency_keys WHERE (org_id, member_id, key) IN (
	SELECT org_id, member_id, key FROM idempotency_keys WHERE org_id = @org AND created_at < now() - interval '24 hours' LIMIT 20)`

	sqlTakeKey = `
INSERT INTO idempotency_keys (org_id, member_id, key, request) VALUES (@org, @member, @key, @request) ON CONFLICT DO NOTHING`

	sqlKnownKey = `SELECT request = @request, answer FROM idempotency_keys WHERE org_id = @org AND member_id = @member AND key = @key`

	sqlKeepAnswer = `UPDATE idempotency_keys SET answer = @answer WHERE org_id = @org AND member_id = @member AND key = @key`
)

// once runs do, and remembers its answer in the same transaction when the request named a key. The same request under
// the same key within a day is given that answer and does nothing; another request under it is Invalid. Two at the same
// time wait for each other.
func once[O any](ctx context.Context, tx pgx.Tx, in any, do func() (O, error)) (out O, err error) {
	per, ok := ctx.Value(onceKey{}).(oncePer)
	if !ok {
		return do()
	}
	if utf8.RuneCountInString(per.key) > maxIdempotencyKey {
		return out, tandem.InvalidFields(tandem.FieldError{Field: idempotencyKey, Message: "A key has at most 200 characters."})
	}
	a, err := tandem.ActorFrom(ctx)
	if err != nil {
		return out, err
	}
	asked, err := json.Marshal(in)
	if err != nil {
		return out, fmt.Errorf("name a request: %w", err)
	}
	digest := sha256.Sum256(append([]byte(per.route+"\n"), asked...))
	args := pgx.StrictNamedArgs{"org": a.Org, "member": a.Member, "key": per.key}
	with := func(name string, v any) pgx.StrictNamedArgs {
		m := pgx.StrictNamedArgs{name: v}
		for k, v := range args {
			m[k] = v
		}
		return m
	}
	if _, err := tx.Exec(ctx, sqlForgetKeys, pgx.StrictNamedArgs{"org": a.Org}); err != nil {
		return out, fmt.Errorf("forget old keys: %w", err)
	}
	tag, err := tx.Exec(ctx, sqlTakeKey, with("request", digest[:]))
	if err != nil {
		return out, fmt.Errorf("take a key: %w", err)
	}
	if tag.RowsAffected() == 0 {
		var same bool
		var answer []byte
		if err := tx.QueryRow(ctx, sqlKnownKey, with("request", digest[:])).Scan(&same, &answer); err != nil {
			return out, fmt.Errorf("look a key up: %w", err)
		}
		if !same {
			return out, tandem.InvalidFields(tandem.FieldError{Field: idempotencyKey, Message: "This key was used for another request. Take a new one for each request."})
		}
		if answer != nil {
			err = json.Unmarshal(answer, &out)
		}
		return out, err
	}
	if out, err = do(); err != nil {
		return out, err
	}
	answer, err := json.Marshal(out)
	if err != nil {
		return out, fmt.Errorf("keep an answer: %w", err)
	}
	if _, err := tx.Exec(ctx, sqlKeepAnswer, with("answer", answer)); err != nil {
		return out, fmt.Errorf("keep an answer: %w", err)
	}
	return out, nil
}
