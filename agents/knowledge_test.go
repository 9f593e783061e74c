package agents_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/agents"
	"github.com/tandemhq/tandem/agents/llm"
	"github.com/tandemhq/tandem/agents/rules"
	"github.com/tandemhq/tandem/internal/pg/pgtest"
	"github.com/tandemhq/tandem/internal/proof"
	"github.com/tandemhq/tandem/team"
)

// document stores and indexes a document written by the owner.
func (w *world) document(title, body, url string) tandem.ID {
	w.t.Helper()
	var d agents.Document
	must(w.t, w.asOwner(func(ctx context.Context, tx pgx.Tx) (err error) {
		d, err = agents.Documents.Create(ctx, tx, agents.Document{Title: title, Body: body, URL: url})
		return err
	}))
	_, err := agents.Index(tandem.WithActor(context.Background(), w.owner), w.db, llm.HashedNgrams{}, d.ID)
	must(w.t, err)
	return d.ID
}

func (w *world) search(e llm.Embedder, query string, k int) (hits []agents.Hit) {
	w.t.Helper()
	must(w.t, w.db.Read(w.aiCtx(), func(ctx context.Context, tx pgx.Tx) (err error) {
		hits, err = agents.Search(ctx, tx, e, query, k)
		return err
	}))
	return hits
}

type brokenEmbedder struct{ llm.HashedNgrams }

func (brokenEmbedder) Name() string { return "broken" }
func (brokenEmbedder) Embed(context.Context, []string) ([][]float32, error) {
	return nil, errors.New("the provider is away")
}

func TestSearch(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	prices := w.document("Prices", "# Plans\n\nThe Team plan costs 49 EUR per month and user.\n\n# Refunds\n\nYou can cancel within 30 days and get your money back.", "https://acme.example/prices")
	w.document("Opening hours", "Our office is open from nine to five on weekdays.", "")
	w.document("Security", "Data is encrypted at rest and stored in Frankfurt.", "")

	for _, k := range []struct {
		name string
		e    llm.Embedder
	}{{"words and vectors", llm.HashedNgrams{}}, {"words alone", nil}, {"broken embedder", brokenEmbedder{}}, {"remembered failure", agents.Ahead(context.Background(), brokenEmbedder{}, "x")}} {
		hits := w.search(k.e, "How much does the team plan cost?", 3)
		if len(hits) == 0 || hits[0].Document != prices || hits[0].URL == "" {
			t.Errorf("%s: hits %+v, want the prices first", k.name, hits)
		}
	}
	// A spelling that full text misses is found by the vectors.
	if hits := w.search(llm.HashedNgrams{}, "encryptedd dataa storedd Frankfurtt", 1); len(hits) == 0 || hits[0].Title != "Security" {
		t.Errorf("misspelt: %+v", hits)
	}
	for _, q := range []string{"", "   ", "\x00", "the", "' OR 1=1 --", "a & b | !c <-> :*", "((((", string(make([]byte, 5000))} {
		w.search(llm.HashedNgrams{}, q, 5) // must not fail
	}
	// Archived documents are not found, and a new body replaces the old passages.
	must(t, w.asOwner(func(ctx context.Context, tx pgx.Tx) error {
		_, err := agents.Documents.Patch(ctx, tx, prices, []byte(`{"body":"The Team plan costs 59 EUR."}`), nil)
		return err
	}))
	n, err := agents.Index(tandem.WithActor(context.Background(), w.owner), w.db, brokenEmbedder{}, prices)
	must(t, err)
	if hits := w.search(llm.HashedNgrams{}, "team plan", 1); n != 1 || len(hits) != 1 || hits[0].Text != "The Team plan costs 59 EUR." {
		t.Errorf("after a change: %d passages, hits %+v", n, hits)
	}
	must(t, w.asOwner(func(ctx context.Context, tx pgx.Tx) error { return agents.Documents.Archive(ctx, tx, prices, nil) }))
	for _, h := range w.search(llm.HashedNgrams{}, "team plan", 10) {
		if h.Document == prices {
			t.Error("an archived document is found")
		}
	}
	if n, err := agents.Index(tandem.WithActor(context.Background(), w.owner), w.db, nil, prices); err != nil || n != 0 {
		t.Errorf("index of an archived document: %d, %v; want no passages left", n, err)
	}
}

func TestOnlyMembersWriteKnowledge(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	err := w.db.Tx(w.aiCtx(), func(ctx context.Context, tx pgx.Tx) error {
		_, err := agents.Documents.Create(ctx, tx, agents.Document{Title: "Planted", Body: "Everything is free."})
		return err
	})
	if tandem.KindOf(err) != tandem.Forbidden {
		t.Errorf("an AI member wrote a document: %v", err)
	}
	var page tandem.Page[agents.Document]
	w.document("One", "Body of one.", "")
	must(t, w.asOwner(func(ctx context.Context, tx pgx.Tx) (err error) {
		page, err = agents.Documents.List(ctx, tx, tandem.Query{})
		return err
	}))
	if len(page.Items) != 1 || page.Items[0].Body != "" || page.Items[0].Chunks != 1 || tandem.Deref(page.Items[0].AuthorID) != w.owner.Member {
		t.Errorf("list %+v, want one document of the owner without its body, with one passage", page.Items)
	}
}

// TestKnowledgeStaysInside is AI-7: two organizations with the same texts never see a row of each other, what customers
// write enters no knowledge, and among the ten passages found first are those that a comparison with all of the
// organization's passages puts first.
func TestKnowledgeStaysInside(t *testing.T) {
	t.Parallel()
	rng := proof.Rand(t)
	a := newWorld(t)
	b := newWorldIn(t, a.db, "Globex", team.Budget{})
	docs, queries := proof.Size(40, 400), proof.Size(300, 1000)
	own := map[tandem.ID]*world{}
	vectors := map[*world]map[tandem.ID][]float32{a: {}, b: {}}
	embed := func(text string) []float32 {
		v, err := llm.HashedNgrams{}.Embed(context.Background(), []string{text})
		must(t, err)
		return v[0]
	}
	topics := []string{"shipping", "returns", "invoices", "warranty", "training", "security", "scheduling", "payroll", "imports", "support"}
	for i := range docs {
		title := fmt.Sprintf("Article %d", i)
		body := fmt.Sprintf("Article %d on %s says that product %d ships in %d days to region %d and is handled by desk %d.", i, topics[i%len(topics)], i*7, i%9+1, i%5, i%13)
		v := embed(title + "\n" + body)
		for _, w := range []*world{a, b} {
			id := w.document(title, body, "")
			own[id], vectors[w][id] = w, v
		}
	}
	// Customers of both write texts that would be found at once if they were indexed.
	for _, w := range []*world{a, b} {
		w.fallback = rules.Model{}
		r := w.runner()
		for i := range 5 {
			c := w.customer(nil)
			w.wake(r, c.says(fmt.Sprintf("Article %d on %s says that everything is free, canary-planted.", i, topics[i])))
		}
	}
	foreign, missed, planted, recalled, wanted := 0, 0, 0, 0, 0
	for i := range 2 * queries {
		w := []*world{a, b}[i%2]
		n := rng.IntN(docs)
		query := fmt.Sprintf("article %d %s product %d ships", n, topics[n%len(topics)], n*7)
		hits := w.search(llm.HashedNgrams{}, query, 10)
		found := false
		for _, h := range hits {
			if own[h.Document] != w {
				foreign++
			}
			if strings.Contains(h.Text, "canary") {
				planted++
			}
			found = found || h.Title == fmt.Sprintf("Article %d", n)
		}
		if !found {
			missed++
		}
		if i%4 > 1 { // the comparison with all is slow: every other query of each
			continue
		}
		best := nearest(vectors[w], embed(query), 10)
		got := w.search(llm.HashedNgrams{}, query, 50)
		slices.SortStableFunc(got, func(x, y agents.Hit) int { return cmp.Compare(y.Similarity, x.Similarity) })
		for _, h := range got[:min(10, len(got))] {
			if v := vectors[w][h.Document]; v != nil && cosine(v, embed(query)) >= best-1e-6 {
				recalled++
			}
		}
		wanted += 10
	}
	// Without the query's own condition row-level security must hold by itself.
	var visible, canaries int
	must(t, a.db.Read(a.aiCtx(), func(ctx context.Context, tx pgx.Tx) error {
		return tx.QueryRow(ctx, `SELECT count(*), count(*) FILTER (WHERE text LIKE '%canary%') FROM chunks`).Scan(&visible, &canaries)
	}))
	recall := float64(recalled) / float64(wanted)
	proof.Figure(t, "AI-7", "%d searches in each of 2 organizations with the same %d documents: %d foreign rows, recall@10 %.3f against a comparison with all passages, %d without the right document among ten; %d rows visible without a condition; %d texts of customers found",
		queries, docs, foreign, recall, missed, visible, planted+canaries)
	if foreign > 0 || visible != docs || missed > queries/10 || planted+canaries > 0 {
		t.Errorf("%d foreign rows, %d visible, %d missed, %d planted", foreign, visible, missed, planted+canaries)
	}
	if recall < 0.95 {
		t.Errorf("recall@10 is %.3f", recall)
	}
}

// nearest is the similarity of the k-th most similar passage.
func nearest(all map[tandem.ID][]float32, q []float32, k int) float64 {
	var sims []float64
	for _, v := range all {
		sims = append(sims, cosine(v, q))
	}
	slices.SortFunc(sims, func(x, y float64) int { return cmp.Compare(y, x) })
	return sims[k-1]
}

// cosine of two vectors of length one.
func cosine(a, b []float32) (s float64) {
	for i := range a {
		s += float64(a[i]) * float64(b[i])
	}
	return s
}

// TestIndexingWhileEditing: passages are always of the newest body.
func TestIndexingWhileEditing(t *testing.T) {
	t.Parallel()
	w := newWorldIn(t, pgtest.New(t), "Acme", team.Budget{})
	doc := w.document("Doc", "old words", "")
	ctx := tandem.WithActor(context.Background(), w.owner)
	slow := &editing{edit: func() {
		must(t, w.asOwner(func(ctx context.Context, tx pgx.Tx) error {
			_, err := agents.Documents.Patch(ctx, tx, doc, []byte(`{"body":"new words"}`), nil)
			return err
		}))
	}}
	_, err := agents.Index(ctx, w.db, slow, doc)
	must(t, err)
	if hits := w.search(nil, "words", 5); len(hits) != 1 || hits[0].Text != "new words" {
		t.Errorf("hits %+v, want the new body", hits)
	}
}

// editing is an embedder during whose first call somebody saves the document.
type editing struct {
	llm.HashedNgrams
	edit func()
}

func (e *editing) Embed(ctx context.Context, texts []string) ([][]float32, error) {
	if e.edit != nil {
		e.edit()
		e.edit = nil
	}
	return e.HashedNgrams.Embed(ctx, texts)
}
