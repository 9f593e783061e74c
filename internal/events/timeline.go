package events

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
)

// Timeline asks for one page of what happened to a record.
type Timeline struct {
	Lead   tandem.ID        // for ForLead
	Nouns  []string         // only events of these
	Actor  tandem.ActorKind // only what actors of this kind did; empty: all
	Cursor string           // opaque; empty for the first page
	Limit  int              // 1 to 1,000; 0 means 50
}

// before is the seq below which the page begins.
func (t Timeline) before() (int64, error) {
	if t.Cursor == "" {
		return math.MaxInt64, nil
	}
	part, err := tandem.DecodeCursor(t.Cursor, 1)
	if err != nil {
		return 0, err
	}
	seq, err := strconv.ParseInt(part[0], 10, 64)
	if err != nil {
		return 0, tandem.InvalidFields(tandem.FieldError{Field: "cursor", Message: "This is not a cursor of this list. Leave it out to start at the beginning."})
	}
	return seq, nil
}

const leadSQL = `
	SELECT ` + columns + ` FROM events e
	WHERE e.org_id = @org AND e.lead_id = @lead AND e.seq < @before AND e.noun = ANY(@nouns) AND (@actor = '' OR e.actor_kind = @actor)
	ORDER BY e.seq DESC LIMIT `

// ForLead returns one page of the events that belong to a lead, newest first. Whether the actor may see the lead and such
// events is the caller's question.
func ForLead(ctx context.Context, tx pgx.Tx, t Timeline) (p tandem.Page[Row], err error) {
	a, err := tandem.ActorFrom(ctx)
	if err != nil {
		return p, err
	}
	before, err := t.before()
	if err != nil {
		return p, err
	}
	size := tandem.Query{Limit: t.Limit}.Size()
	// The limit is no argument, so that the server knows that few rows are wanted and keeps one plan.
	rows, err := collect(tx.Query(ctx, leadSQL+strconv.Itoa(size+1), pgx.StrictNamedArgs{
		"org": a.Org, "lead": t.Lead, "before": before, "nouns": t.Nouns, "actor": string(t.Actor),
	}))
	if err != nil {
		return p, err
	}
	return tandem.PageOf(rows, size, func(r Row) []string { return []string{strconv.FormatInt(r.Seq, 10)} }), nil
}

// Source is a part of a composed timeline: the events of some records that have to do with its own.
type Source struct {
	By    string   // how events name these records: ByRecord, ByLead or ByConversation
	About string   // the noun of what they are about
	Nouns []string // the nouns that their events have; nil: any
	IDs   string   // SQL of two columns, the records' ids and the ids of what they are about; org_id = @org and @ids are at hand
	Of    string   // which of Timeline's ids are @ids
}

// How the events of a Source name its records. Each has an index with seq behind it. ByRecord leaves events of conversations
// out: they name their conversation, and keeping messages out of that index keeps their storing as fast as it was.
const (
	ByRecord       = "record_id"
	ByLead         = "lead_id"
	ByConversation = "conversation_id"
)

// Entry is an event of a composed timeline.
type Entry struct {
	Row
	About Ref // what it was about
}

// Ref names a record.
type Ref struct {
	Noun string    `json:"noun"`
	ID   tandem.ID `json:"id"`
}

// entry is a record with what it was about.
type entry struct {
	record
	AboutNoun string
	AboutID   tandem.ID
}

// partSQL walks the log backwards from before, for each record by itself and no further than a page: what all of them have is
// then merged, so that a page costs the same however long the log is.
const partSQL = `
		SELECT e.seq, %d AS part, s.about FROM (%s) s(id, about) CROSS JOIN LATERAL (
			SELECT seq FROM events WHERE org_id = @org AND %s = s.id%s AND seq < @before AND noun = ANY(@nouns%d) AND (@actor = '' OR actor_kind = @actor)
			ORDER BY seq DESC LIMIT %d) e`

// Compose returns one page of the events of all sources, newest first and each once: an event that several have is about what
// the first of them says. ids has those that the sources' Of name. Whether the actor may see the records and such events is
// the caller's question.
func Compose(ctx context.Context, tx pgx.Tx, t Timeline, sources []Source, ids map[string][]tandem.ID) (p tandem.Page[Entry], err error) {
	a, err := tandem.ActorFrom(ctx)
	if err != nil {
		return p, err
	}
	before, err := t.before()
	if err != nil {
		return p, err
	}
	size := tandem.Query{Limit: t.Limit}.Size()
	args := pgx.StrictNamedArgs{"org": a.Org, "before": before, "actor": string(t.Actor)}
	var parts, abouts []string
	for i, s := range sources {
		nouns := t.Nouns
		if s.Nouns != nil {
			nouns = slices.DeleteFunc(slices.Clone(s.Nouns), func(n string) bool { return !slices.Contains(t.Nouns, n) })
		}
		if len(nouns) == 0 || len(ids[s.Of]) == 0 {
			continue
		}
		args["nouns"+strconv.Itoa(i)], args[s.Of] = nouns, ids[s.Of]
		alone := ""
		if s.By == ByRecord {
			alone = " AND conversation_id IS NULL"
		}
		parts = append(parts, fmt.Sprintf(partSQL, i, strings.ReplaceAll(s.IDs, "@ids", "@"+s.Of+"::uuid[]"), s.By, alone, i, size+1))
		abouts = append(abouts, fmt.Sprintf("WHEN %d THEN '%s'", i, s.About))
	}
	if len(parts) == 0 {
		return tandem.Page[Entry]{Items: []Entry{}}, nil
	}
	sql := "SELECT " + columns + ", CASE t.part " + strings.Join(abouts, " ") + ` END AS about_noun, t.about::text AS about_id
	FROM (SELECT DISTINCT ON (seq) seq, part, about FROM (` + strings.Join(parts, " UNION ALL") + `) every
		ORDER BY seq DESC, part LIMIT ` + strconv.Itoa(size+1) + `) t
	CROSS JOIN LATERAL (SELECT * FROM events WHERE org_id = @org AND seq = t.seq LIMIT 1) e
	ORDER BY t.seq DESC`
	rows, err := tx.Query(ctx, sql, args)
	if err != nil {
		return p, fmt.Errorf("compose a timeline: %w", err)
	}
	recs, err := pgx.CollectRows(rows, pgx.RowToStructByName[entry])
	if err != nil {
		return p, fmt.Errorf("compose a timeline: %w", err)
	}
	out := make([]Entry, len(recs))
	for i, r := range recs {
		if out[i].Row, err = r.row(); err != nil {
			return p, err
		}
		out[i].About = Ref{r.AboutNoun, r.AboutID}
	}
	return tandem.PageOf(out, size, func(e Entry) []string { return []string{strconv.FormatInt(e.Seq, 10)} }), nil
}
