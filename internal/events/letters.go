package events

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/bus"
	"github.com/tandemhq/tandem/internal/pg"
)

// Letter is a fact that one subscription could not work off, kept until a person has it tried again or discards it.
type Letter struct {
	ID       tandem.ID  `db:"id" json:"id"`
	Consumer string     `db:"consumer" json:"consumer" doc:"The part of Tandem that failed, such as courier."`
	Fact     tandem.ID  `db:"msg_id" json:"fact_id" doc:"The event or command that was not worked off."`
	Subject  string     `db:"subject" json:"-"`
	Body     []byte     `db:"body" json:"-"`
	Topic    string     `db:"-" json:"topic" doc:"Its topic, such as message.received."`
	Record   *tandem.ID `db:"-" json:"record_id" doc:"The record it is about."`
	Error    string     `db:"error" json:"error" doc:"What the last try ended with."`
	Tries    int        `db:"tries" json:"tries"`
	At       time.Time  `db:"created_at" json:"created_at"`
}

// read fills in what the body says. One that is no fact has only its subject to tell.
func (l *Letter) read() {
	l.Topic = l.Subject
	if f, err := decode(bus.Msg{Body: l.Body}); err == nil {
		l.Topic, l.Record = f.Topic, f.Record.Ptr()
	}
}

const letterColumns = ` d.id, d.consumer, d.msg_id, d.subject, d.body, d.error, d.tries, d.created_at `

const (
	lettersSQL = `SELECT` + letterColumns + `FROM dead_letters d WHERE d.org_id = @org AND (@after::uuid IS NULL OR (d.created_at, d.id) < (@at, @after))
		ORDER BY d.created_at DESC, d.id DESC LIMIT @limit`
	letterSQL = `SELECT` + letterColumns + `FROM dead_letters d WHERE d.org_id = @org AND d.id = @id`
)

// Letters returns a page of the organization's dead letters, newest first. It needs dead_letter:read.
func Letters(ctx context.Context, tx pgx.Tx, q tandem.Query) (page tandem.Page[Letter], err error) {
	a, err := mayLetters(ctx, "dead_letter:read")
	if err != nil {
		return page, err
	}
	args := pgx.StrictNamedArgs{"org": a.Org, "limit": q.Size() + 1, "at": time.Time{}, "after": nil}
	if q.Cursor != "" {
		key, err := tandem.DecodeCursor(q.Cursor, 2)
		if err != nil {
			return page, err
		}
		at, err1 := time.Parse(time.RFC3339Nano, key[0])
		id, err2 := tandem.ParseID(key[1])
		if err1 != nil || err2 != nil {
			_, err := tandem.DecodeCursor("", 2)
			return page, err
		}
		args["at"], args["after"] = at, id
	}
	rows, err := tx.Query(ctx, lettersSQL, args)
	if err != nil {
		return page, fmt.Errorf("list dead letters: %w", err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByName[Letter])
	if err != nil {
		return page, fmt.Errorf("list dead letters: %w", err)
	}
	for i := range all {
		all[i].read()
	}
	return tandem.PageOf(all, q.Size(), func(l Letter) []string {
		return []string{l.At.UTC().Format(time.RFC3339Nano), string(l.ID)}
	}), nil
}

// GetLetter returns one dead letter, or NotFound. It needs dead_letter:read.
func GetLetter(ctx context.Context, tx pgx.Tx, id tandem.ID) (Letter, error) {
	a, err := mayLetters(ctx, "dead_letter:read")
	if err != nil {
		return Letter{}, err
	}
	return getLetter(ctx, tx, letterSQL, a.Org, id)
}

func getLetter(ctx context.Context, tx pgx.Tx, q string, org, id tandem.ID) (Letter, error) {
	rows, err := tx.Query(ctx, q, pgx.StrictNamedArgs{"org": org, "id": id})
	if err != nil {
		return Letter{}, fmt.Errorf("read a dead letter: %w", err)
	}
	l, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[Letter])
	if pg.NoRows(err) {
		return l, tandem.Errorf(tandem.NotFound, "There is no such failed message.")
	}
	if err != nil {
		return l, fmt.Errorf("read a dead letter: %w", err)
	}
	l.read()
	return l, nil
}

// Requeue notes in the log that a dead letter will be tried again, and returns it. The caller arranges, in the same
// transaction, that a process that has the letter's consumer calls Redeliver. It needs dead_letter:write.
func Requeue(ctx context.Context, tx pgx.Tx, id tandem.ID) (Letter, error) {
	return decideLetter(ctx, tx, id, "requeued", "%s has the failed %s tried again.")
}

// Discard deletes a dead letter; the log keeps what it was. It needs dead_letter:write.
func Discard(ctx context.Context, tx pgx.Tx, id tandem.ID) (Letter, error) {
	l, err := decideLetter(ctx, tx, id, "discarded", "%s discarded the failed %s.")
	if err != nil {
		return l, err
	}
	a, err := tandem.ActorFrom(ctx)
	if err != nil {
		return l, err
	}
	return l, deleteLetter(ctx, tx, a.Org, id)
}

func decideLetter(ctx context.Context, tx pgx.Tx, id tandem.ID, verb, text string) (Letter, error) {
	a, err := mayLetters(ctx, "dead_letter:write")
	if err != nil {
		return Letter{}, err
	}
	l, err := getLetter(ctx, tx, letterSQL+" FOR UPDATE", a.Org, id)
	if err != nil {
		return l, err
	}
	_, err = Emit(ctx, tx, tandem.Event{
		Noun: "dead_letter", Verb: verb, Record: id, Description: fmt.Sprintf(text, a.Name, l.Topic), Category: "security", Severity: "warning",
		Changes: []tandem.Change{{Field: "fact_id", Old: l.Fact, New: nil}, {Field: "consumer", Old: l.Consumer, New: nil}, {Field: "error", Old: l.Error, New: nil}},
	})
	if err != nil {
		return l, fmt.Errorf("emit dead_letter.%s: %w", verb, err)
	}
	return l, nil
}

// StillDead remembers, after Redeliver failed with cause, one try more and why. A letter that is gone is no error.
func StillDead(ctx context.Context, db *pg.DB, letter tandem.ID, cause error) error {
	a, err := tandem.ActorFrom(ctx)
	if err != nil {
		return err
	}
	return db.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `UPDATE dead_letters SET error = @error, tries = tries + 1 WHERE org_id = @org AND id = @id`,
			pgx.StrictNamedArgs{"org": a.Org, "id": letter, "error": clean(cause.Error())})
		return wrap(err, "remember why a dead letter failed again")
	})
}

func mayLetters(ctx context.Context, permission string) (tandem.Actor, error) {
	a, err := tandem.ActorFrom(ctx)
	if err != nil {
		return a, err
	}
	return a, a.Require(permission)
}
