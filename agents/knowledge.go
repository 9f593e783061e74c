package agents

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/pgvector/pgvector-go"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/agents/llm"
	"github.com/tandemhq/tandem/internal/events"
	"github.com/tandemhq/tandem/internal/pg"
	"github.com/tandemhq/tandem/internal/record"
)

// Document is one text of the organization's knowledge base. Only members write documents; what a
// customer says never becomes one by itself.
type Document struct {
	ID        tandem.ID  `db:"id" json:"id"`
	Title     string     `db:"title" json:"title"`
	Body      string     `db:"body" json:"body,omitempty"` // empty in lists
	URL       string     `db:"url" json:"url"`             // where a customer can read it; empty: nowhere
	AuthorID  *tandem.ID `db:"author_id" json:"-"`
	Chunks    int        `db:"chunks" json:"chunks"` // passages that can be found; 0 until it is indexed
	CreatedAt time.Time  `db:"created_at" json:"created_at"`
	UpdatedAt time.Time  `db:"updated_at" json:"updated_at"`
	Version   int64      `db:"version" json:"version"`
}

// documents is record.Set with an author filled in and lists without bodies.
type documents struct{ record.Set[Document] }

// The count of passages is one probe of the unique index of chunks per row shown, and a knowledge
// base has few documents; a counter column would make every indexing write the document.
const selectDocument = `SELECT d.id, d.title, d.body, d.url, d.author_id, d.created_at, d.updated_at, d.version,
  (SELECT count(*) FROM chunks c WHERE c.org_id = d.org_id AND c.document_id = d.id)::int AS chunks FROM knowledge_documents d`

const selectDocumentRow = `SELECT d.id, d.title, '' AS body, d.url, d.author_id, d.created_at, d.updated_at, d.version,
  (SELECT count(*) FROM chunks c WHERE c.org_id = d.org_id AND c.document_id = d.id)::int AS chunks FROM knowledge_documents d`

// Documents is the knowledge base: permission knowledge:read and knowledge:write, events
// knowledge.created, .updated and .archived. Index makes a document findable.
var Documents = documents{record.Set[Document]{
	Noun: "knowledge", Word: "document", Table: "knowledge_documents", Alias: "d", Select: selectDocument,
	Fields: []record.Field{
		{Name: "title", Write: true},
		{Name: "body", Write: true, Hidden: true},
		{Name: "url", Write: true},
		{Name: "author_id", Type: record.ID, Once: true},
	},
	Search: []string{"d.title"}, Archivable: true, Label: "title", Category: "team", Check: checkDocument,
}}

const (
	maxTitle = 300
	maxBody  = 1_000_000
)

func checkDocument(d *Document) error {
	var bad []tandem.FieldError
	if n := len([]rune(d.Title)); n < 1 || n > maxTitle {
		bad = append(bad, tandem.FieldError{Field: "title", Message: "Give the document a title of at most 300 characters."})
	}
	if len(d.Body) > maxBody {
		bad = append(bad, tandem.FieldError{Field: "body", Message: "A document holds at most one million bytes; split it."})
	}
	if d.URL != "" {
		if u, err := url.Parse(d.URL); err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Host == "" || len(d.URL) > 2000 {
			bad = append(bad, tandem.FieldError{Field: "url", Message: "This is not an http or https address."})
		}
	}
	if len(bad) > 0 {
		return tandem.InvalidFields(bad...)
	}
	return nil
}

// Create stores a document whose author is the actor.
func (s documents) Create(ctx context.Context, tx pgx.Tx, d Document) (Document, error) {
	a, err := tandem.ActorFrom(ctx)
	if err != nil {
		return d, err
	}
	d.AuthorID = a.Member.Ptr()
	return s.Set.Create(ctx, tx, d)
}

// List returns one page without bodies, newest first.
func (s documents) List(ctx context.Context, tx pgx.Tx, q tandem.Query) (tandem.Page[Document], error) {
	rows := s.Set
	rows.Select = selectDocumentRow
	return rows.List(ctx, tx, q)
}

const (
	sqlBody = `SELECT title, body, version FROM knowledge_documents WHERE org_id = @org AND id = @id AND archived_at IS NULL`

	sqlBodyVersion = `SELECT version FROM knowledge_documents WHERE org_id = @org AND id = @id AND archived_at IS NULL FOR UPDATE`

	sqlDropChunks = `DELETE FROM chunks WHERE org_id = @org AND document_id = @id`

	sqlAddChunk384 = `INSERT INTO chunks (org_id, id, document_id, ord, text, embedder, embedding_384)
VALUES (@org, @chunk, @id, @ord, @text, @embedder, @vector)`

	sqlAddChunk1536 = `INSERT INTO chunks (org_id, id, document_id, ord, text, embedder, embedding_1536)
VALUES (@org, @chunk, @id, @ord, @text, @embedder, @vector)`
)

// The dimensions that the schema has a column for.
const (
	dimSmall = 384
	dimLarge = 1536
)

// Index replaces the passages of a document and returns how many it has now; none when the document
// is archived or gone. The embedder is called before the transaction opens. When it fails, the
// built-in one takes its place: the document is then found by its words, and by meaning again
// after the next indexing. The actor in ctx needs knowledge:write.
func Index(ctx context.Context, db *pg.DB, e llm.Embedder, document tandem.ID) (int, error) {
	a, err := Documents.May(ctx, "write")
	if err != nil {
		return 0, err
	}
	args := pgx.StrictNamedArgs{"org": a.Org, "id": document}
	for {
		var title, body string
		var version int64
		gone := false
		err := db.Read(ctx, func(ctx context.Context, tx pgx.Tx) error {
			err := tx.QueryRow(ctx, sqlBody, args).Scan(&title, &body, &version)
			gone = pg.NoRows(err)
			if gone {
				return nil
			}
			return err
		})
		if err != nil {
			return 0, fmt.Errorf("read document to index: %w", err)
		}
		var passages []string
		var vectors [][]float32
		used := e
		if !gone {
			passages = Split(body)
			if len(passages) == 0 {
				passages = []string{title}
			}
			if used, vectors, err = embedPassages(ctx, e, title, passages); err != nil {
				return 0, err
			}
		}
		stale := false
		err = db.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
			var now int64
			err := tx.QueryRow(ctx, sqlBodyVersion, args).Scan(&now)
			switch {
			case pg.NoRows(err):
				passages = nil
			case err != nil:
				return err
			case now != version:
				stale = true // somebody saved it while we were embedding: what we have is of yesterday
				return nil
			}
			stale = false
			return replaceChunks(ctx, tx, a.Org, document, used, passages, vectors)
		})
		if err != nil {
			return 0, fmt.Errorf("index document: %w", err)
		}
		if !stale {
			return len(passages), nil
		}
	}
}

// embedPassages returns the embedder that was used and one vector per passage. The title is embedded
// with each passage, because customers ask with its words.
func embedPassages(ctx context.Context, e llm.Embedder, title string, passages []string) (llm.Embedder, [][]float32, error) {
	texts := make([]string, len(passages))
	for i, p := range passages {
		texts[i] = title + "\n" + p
	}
	if e != nil && (e.Dim() == dimSmall || e.Dim() == dimLarge) {
		v, err := e.Embed(ctx, texts)
		if err == nil && len(v) == len(texts) {
			return e, v, nil
		}
		if ctx.Err() != nil {
			return nil, nil, ctx.Err()
		}
		slog.WarnContext(ctx, "embedder failed, indexing with the built-in one", "embedder", e.Name(), "err", err)
	}
	builtin := llm.HashedNgrams{}
	v, err := builtin.Embed(ctx, texts)
	if err != nil {
		return nil, nil, fmt.Errorf("embed passages: %w", err)
	}
	return builtin, v, nil
}

func replaceChunks(ctx context.Context, tx pgx.Tx, org, document tandem.ID, e llm.Embedder, passages []string, vectors [][]float32) error {
	if _, err := tx.Exec(ctx, sqlDropChunks, pgx.StrictNamedArgs{"org": org, "id": document}); err != nil {
		return fmt.Errorf("drop passages: %w", err)
	}
	var b pgx.Batch
	for i, p := range passages {
		sql := sqlAddChunk384
		if len(vectors[i]) == dimLarge {
			sql = sqlAddChunk1536
		}
		b.Queue(sql, pgx.StrictNamedArgs{
			"org": org, "chunk": tandem.NewID(), "id": document, "ord": i, "text": p,
			"embedder": e.Name(), "vector": pgvector.NewVector(vectors[i]),
		})
	}
	if b.Len() == 0 {
		return nil
	}
	return tx.SendBatch(ctx, &b).Close()
}

// Indexer keeps the knowledge base findable: it indexes each document that was written.
type Indexer struct {
	DB       *pg.DB
	Embedder llm.Embedder // nil: the built-in one
}

// Subscription is the Indexer's place on the bus.
func (x *Indexer) Subscription() events.Subscription {
	return events.Subscription{
		Name: "knowledge", Topics: []string{"knowledge.created", "knowledge.updated", "knowledge.archived"}, Workers: 1, MaxDeliver: 5,
		Handle: func(ctx context.Context, f events.Fact) error {
			_, err := Index(ctx, x.DB, x.Embedder, f.Record)
			return err
		},
	}
}
