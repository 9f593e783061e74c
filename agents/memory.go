package agents

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/pgvector/pgvector-go"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/agents/llm"
)

// Hit is one passage of the knowledge base that a search found.
type Hit struct {
	Chunk    tandem.ID `db:"id" json:"chunk_id"`
	Document tandem.ID `db:"document_id" json:"document_id"`
	Title    string    `db:"title" json:"title"`
	Text     string    `db:"text" json:"text"`
	URL      string    `db:"url" json:"url"`
	// Score is 0 to 1: the reciprocal ranks of both searches, 1 when both put it first. It orders hits
	// of one search and says nothing about how well the best one fits; Similarity and Words do.
	Score      float64 `db:"score" json:"score"`
	Similarity float64 `db:"similarity" json:"similarity"` // cosine of the vectors, 0 when found by words alone
	Words      bool    `db:"words" json:"words"`           // found by its words
}

const (
	maxQuery = 1000 // bytes of a search text
	maxHits  = 50
)

// The candidates of the search by words. Every word may match; passages with all of them come first.
const sqlWords = `
WITH q AS (SELECT plainto_tsquery('english', @query) AS every,
                  replace(replace(plainto_tsquery('english', @query)::text, '&', '|'), '<->', '|')::tsquery AS some),
words AS (
  SELECT id, row_number() OVER (ORDER BY hit DESC, rank DESC, id) AS place FROM (
    SELECT c.id, c.tsv @@ q.every AS hit, ts_rank(c.tsv, q.some, 1) AS rank
    FROM q, chunks c JOIN knowledge_documents d ON d.org_id = c.org_id AND d.id = c.document_id AND d.archived_at IS NULL
    WHERE c.org_id = @org AND c.tsv @@ q.some
    ORDER BY 2 DESC, 3 DESC, 1 LIMIT 40) w)`

// Vectors are compared with all passages of the organization: exact, and fast while they are few.
const sqlNear384 = `, near AS (
  SELECT id, 1 - distance AS similarity, row_number() OVER (ORDER BY distance, id) AS place FROM (
    SELECT c.id, c.embedding_384 <=> @vector AS distance
    FROM chunks c JOIN knowledge_documents d ON d.org_id = c.org_id AND d.id = c.document_id AND d.archived_at IS NULL
    WHERE c.org_id = @org AND c.embedder = @embedder AND c.embedding_384 IS NOT NULL
    ORDER BY 2, 1 LIMIT 40) n WHERE distance < @far)`

const sqlNear1536 = `, near AS (
  SELECT id, 1 - distance AS similarity, row_number() OVER (ORDER BY distance, id) AS place FROM (
    SELECT c.id, c.embedding_1536 <=> @vector AS distance
    FROM chunks c JOIN knowledge_documents d ON d.org_id = c.org_id AND d.id = c.document_id AND d.archived_at IS NULL
    WHERE c.org_id = @org AND c.embedder = @embedder AND c.embedding_1536 IS NOT NULL
    ORDER BY 2, 1 LIMIT 40) n WHERE distance < @far)`

const sqlNearNone = `, near AS (SELECT NULL::uuid AS id, 0::float8 AS similarity, 0::bigint AS place WHERE false)`

// Reciprocal rank fusion with k = 60, scaled so that first place in both lists is 1.
const sqlFuse = `
SELECT c.id, c.document_id, d.title, c.text, d.url, f.score, f.similarity, f.words
FROM (SELECT coalesce(w.id, n.id) AS id, coalesce(n.similarity, 0)::float8 AS similarity, w.id IS NOT NULL AS words,
             ((coalesce(1.0 / (60 + w.place), 0) + coalesce(1.0 / (60 + n.place), 0)) * 30.5)::float8 AS score
      FROM words w FULL JOIN near n ON n.id = w.id) f
JOIN chunks c ON c.org_id = @org AND c.id = f.id
JOIN knowledge_documents d ON d.org_id = @org AND d.id = c.document_id
ORDER BY f.score DESC, f.similarity DESC, c.id LIMIT @limit`

// farthest is the cosine distance from which two texts have nothing to do with each other.
const farthest = 0.94

// Search finds the k passages (at most 50) that fit the query best, by words and by vectors. It needs
// knowledge:read. When the embedder is nil or fails, words alone decide. A remote embedder must
// not be called while a transaction is open: pass what Ahead returned.
func Search(ctx context.Context, tx pgx.Tx, e llm.Embedder, query string, k int) ([]Hit, error) {
	a, err := Documents.May(ctx, "read")
	if err != nil {
		return nil, err
	}
	query = cleanQuery(query)
	if query == "" {
		return []Hit{}, nil
	}
	args := pgx.StrictNamedArgs{"org": a.Org, "query": query, "limit": min(max(k, 1), maxHits)}
	near := sqlNearNone
	if v := vectorOf(ctx, e, query); v != nil {
		near = sqlNear384
		if len(v) == dimLarge {
			near = sqlNear1536
		}
		args["vector"], args["embedder"], args["far"] = pgvector.NewVector(v), e.Name(), farthest
	}
	rows, err := tx.Query(ctx, sqlWords+near+sqlFuse, args)
	if err != nil {
		return nil, fmt.Errorf("search knowledge: %w", err)
	}
	hits, err := pgx.CollectRows(rows, pgx.RowToStructByName[Hit])
	if err != nil {
		return nil, fmt.Errorf("search knowledge: %w", err)
	}
	return hits, nil
}

func cleanQuery(q string) string {
	return strings.TrimSpace(strings.ToValidUTF8(strings.ReplaceAll(clip(q, maxQuery), "\x00", " "), " "))
}

func vectorOf(ctx context.Context, e llm.Embedder, query string) []float32 {
	if e == nil {
		return nil
	}
	v, err := e.Embed(ctx, []string{query})
	if err != nil || len(v) != 1 || len(v[0]) != e.Dim() || (e.Dim() != dimSmall && e.Dim() != dimLarge) {
		return nil
	}
	return v[0]
}

// Ahead asks e for the query's vector now, and returns an embedder that answers with it from memory,
// so that Search needs no network inside its transaction. A failure is remembered in its place.
func Ahead(ctx context.Context, e llm.Embedder, query string) llm.Embedder {
	if e == nil {
		return nil
	}
	v, err := e.Embed(ctx, []string{cleanQuery(query)})
	return remembered{name: e.Name(), dim: e.Dim(), vectors: v, err: err}
}

type remembered struct {
	name    string
	dim     int
	vectors [][]float32
	err     error
}

func (r remembered) Name() string { return r.name }
func (r remembered) Dim() int     { return r.dim }
func (r remembered) Embed(context.Context, []string) ([][]float32, error) {
	return r.vectors, r.err
}
