package inbox

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/pg"
	"github.com/tandemhq/tandem/team"
)

// The cast of a machine: everybody who may act on its one conversation.
const (
	boss   = iota // owner of the organization
	kim           // agent
	lou           // agent, in the team Crew
	guest         // viewer
	ext           // an external AI member, in the team Crew
	ava           // an AI member
	bob           // another
	nobody = -1
)

// machine plays sequences of steps on one organization, one conversation per sequence.
type machine struct {
	*world
	cast [7]tandem.Actor
	crew tandem.ID // a team
}

func newMachine(w *world) *machine {
	m := &machine{world: w}
	people := w.people(2, "agent")
	viewer := w.people(1, "viewer")[0]
	m.cast = [...]tandem.Actor{w.owner, people[0], people[1], viewer, {}, w.ava, w.bob}
	w.do(w.system(), func(ctx context.Context, tx pgx.Tx) (err error) {
		id := tandem.NewID()
		if _, err := tx.Exec(ctx, `INSERT INTO members (org_id, id, kind, name, role) VALUES ($1, $2, 'external', 'Xen', 'agent')`, w.org, id); err != nil {
			return err
		}
		m.cast[ext] = tandem.Actor{Org: w.org, Member: id, Kind: tandem.External, Name: "Xen", Role: "agent", Grants: team.Grants("agent"), Chain: tandem.NewID()}
		if _, err := tx.Exec(ctx, `UPDATE members SET skills = '{german}' WHERE org_id = $1 AND id = $2`, w.org, m.cast[kim].Member); err != nil {
			return err
		}
		m.crew, err = team.AddTeam(ctx, tx, "Crew", false, []tandem.ID{m.cast[lou].Member, id})
		return err
	})
	return m
}

// asked are the members whom a handoff to target reaches; an owner always may decide.
func asked(target int, who int) bool {
	switch target {
	case toKim, toGerman:
		return who == boss || who == kim
	case toCrew:
		return who == boss || who == lou || who == ext
	}
	return who == boss
}

const (
	toAnybody = iota // the fallback team
	toKim
	toGerman
	toCrew
)

func (m *machine) target(to int) Target {
	switch to {
	case toKim:
		return Target{Member: m.cast[kim].Member}
	case toGerman:
		return Target{Skill: "german"}
	case toCrew:
		return Target{Team: m.crew}
	}
	return Target{}
}

// truth is what a conversation ought to look like: the model.
type truth struct {
	owner                  int
	fence                  int64
	state                  string
	run                    tandem.ID // that holds the lease
	over                   bool      // the lease has run out
	open                   int       // index of the open handoff, or nobody
	handoffs               []asking
	lines                  []wrote
	next, lastIn, answered int64
	events                 map[string]int
	off                    [7]bool // disabled members
}

type asking struct {
	id       tandem.ID
	state    string
	from, to int
}

type wrote struct {
	id         tandem.ID
	kind, from string // message or note; who wrote it: contact, human, ai, external
	status     string
	fence      int64
	handoff    int
	attempt    int
	unclear    bool // it may have arrived at an earlier try
}

func (s truth) clone() truth {
	s.handoffs, s.lines, s.events = slices.Clone(s.handoffs), slices.Clone(s.lines), maps.Clone(s.events)
	return s
}

func (s *truth) says(topics ...string) {
	for _, t := range topics {
		s.events[t]++
	}
}

// String spells the model as the database's own account of the conversation is spelled; see accountSQL.
func (m *machine) spell(s truth) string {
	var b strings.Builder
	owner := ""
	if s.owner != nobody {
		owner = string(m.cast[s.owner].Member)
	}
	open := ""
	if s.open != nobody {
		open = string(s.handoffs[s.open].id)
	}
	fmt.Fprintf(&b, "owner %s fence %d %s handoff %s run %s over %t next %d in %d answered %d\n", owner, s.fence, s.state, open, s.run, s.over, s.next, s.lastIn, s.answered)
	for i, l := range s.lines {
		h := ""
		if l.handoff != nobody {
			h = string(s.handoffs[l.handoff].id)
		}
		fmt.Fprintf(&b, "%d %s %s %s %d %s %d\n", i+1, l.kind, l.from, l.status, l.fence, h, l.attempt)
	}
	hs := make([]string, len(s.handoffs))
	for i, h := range s.handoffs {
		hs[i] = string(h.id) + " " + h.state + "\n"
	}
	slices.Sort(hs)
	b.WriteString(strings.Join(hs, ""))
	for _, t := range slices.Sorted(maps.Keys(s.events)) {
		fmt.Fprintf(&b, "%s %d\n", t, s.events[t])
	}
	return b.String()
}

const accountSQL = `
	SELECT format(E'owner %s fence %s %s handoff %s run %s over %s next %s in %s answered %s\n', c.owner_id, c.fence, c.state, c.handoff_id, c.lease_run,
	              CASE WHEN coalesce(c.lease_until <= clock_timestamp(), false) THEN 'true' ELSE 'false' END, c.next_seq, c.last_inbound_seq, c.answered_seq)
	    || coalesce((SELECT string_agg(format(E'%s %s %s %s %s %s %s\n', m.seq, m.kind, m.sender_kind, m.status, m.fence, m.handoff_id, m.attempt), '' ORDER BY m.seq)
	                 FROM messages m WHERE m.org_id = c.org_id AND m.conversation_id = c.id), '')
	    || coalesce((SELECT string_agg(format(E'%s %s\n', h.id, h.state), '' ORDER BY h.id::text COLLATE "C")
	                 FROM handoffs h WHERE h.org_id = c.org_id AND h.conversation_id = c.id), '')
	    || coalesce((SELECT string_agg(format(E'%s %s\n', e.topic, e.n), '' ORDER BY e.topic COLLATE "C")
	                 FROM (SELECT noun || '.' || verb AS topic, count(*) AS n FROM events
	                       WHERE org_id = c.org_id AND conversation_id = c.id AND noun IN ('conversation', 'message', 'handoff') GROUP BY 1) e), '')
	    -- What must be there for what comes later: the timers, and the command for the message whose turn it is.
	    || CASE WHEN c.lease_run IS NOT NULL AND NOT EXISTS (SELECT FROM timers t WHERE t.org_id = c.org_id AND t.kind = 'lease' AND t.record_id = c.id) THEN 'no lease timer' ELSE '' END
	    || CASE WHEN c.handoff_id IS NOT NULL AND NOT EXISTS (SELECT FROM timers t WHERE t.org_id = c.org_id AND t.kind = 'handoff' AND t.record_id = c.handoff_id) THEN 'no handoff timer' ELSE '' END
	    || coalesce((SELECT 'no command for ' || m.seq FROM messages m
	                 WHERE m.org_id = c.org_id AND m.conversation_id = c.id AND m.status = 'queued'
	                   AND NOT EXISTS (SELECT FROM messages p WHERE p.org_id = m.org_id AND p.conversation_id = m.conversation_id AND p.seq < m.seq AND p.status IN ('queued', 'retry_wait', 'dispatching'))
	                   AND NOT EXISTS (SELECT FROM outbox o WHERE o.org_id = m.org_id AND o.record_id = m.id AND o.topic = 'out')), '')
	FROM conversations c WHERE c.org_id = $1 AND c.id = $2`

func (m *machine) account(ctx context.Context, tx pgx.Tx, conv tandem.ID) (got string, err error) {
	err = tx.QueryRow(ctx, accountSQL, m.org, conv).Scan(&got)
	return got, err
}

// stage is where the steps of a sequence happen: in transactions of their own, or in savepoints
// of one that is rolled back in the end. One organization serves any number of sequences either way.
type stage struct {
	m    *machine
	root pgx.Tx // nil: each step commits
}

func (s stage) do(a tandem.Actor, fn pg.TxFunc) error {
	ctx := tandem.WithActor(s.m.Context(), a)
	if s.root == nil {
		return s.m.db.Tx(ctx, fn)
	}
	return pgx.BeginFunc(ctx, s.root, func(tx pgx.Tx) error { return fn(ctx, tx) })
}

var errEnd = errors.New("the sequence is over")

// play runs one sequence on a conversation of its own.
func (m *machine) play(commits bool, fn func(on stage) error) error {
	if commits {
		return fn(stage{m: m})
	}
	var failed error
	err := m.db.Tx(m.system(), func(ctx context.Context, tx pgx.Tx) error {
		if failed = fn(stage{m: m, root: tx}); failed != nil {
			return failed
		}
		return errEnd
	})
	if errors.Is(err, errEnd) {
		return nil
	}
	return errors.Join(failed, err)
}

func (m *machine) systemActor() tandem.Actor {
	return tandem.Actor{Org: m.org, Kind: tandem.System, Name: "Tandem", Chain: tandem.NewID()}
}

// opens makes a conversation with one message of a contact and returns its model.
func (m *machine) opens(on stage) (conv tandem.ID, from string, s truth, err error) {
	from = m.name("visitor")
	err = on.do(m.systemActor(), func(ctx context.Context, tx pgx.Tx) error {
		got, err := Ingest(ctx, tx, m.inbound(from, "Hello"))
		conv = got.Conversation
		s = truth{
			owner: nobody, state: StateOpen, open: nobody, next: 2, lastIn: 1, events: map[string]int{"conversation.opened": 1, "message.received": 1},
			lines: []wrote{{got.Message, "message", "contact", Received, 0, nobody, 0, false}},
		}
		return err
	})
	return conv, from, s, err
}

// lapse moves a lease into the past, as time does.
func (m *machine) lapse(on stage, conv tandem.ID) error {
	return on.do(m.systemActor(), func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `UPDATE conversations SET lease_until = now() - interval '1 hour' WHERE org_id = $1 AND id = $2 AND lease_run IS NOT NULL`, m.org, conv)
		return err
	})
}

// strike does what the timer runner does when a timer is due: its handler and its end in one
// transaction; a timer that does not exist does not strike.
func (m *machine) strike(on stage, kind string, record tandem.ID) (fired bool, err error) {
	err = on.do(m.systemActor(), func(ctx context.Context, tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `DELETE FROM timers WHERE kind = $1 AND org_id = $2 AND record_id = $3`, kind, m.org, record)
		if fired = tag.RowsAffected() == 1; err != nil || !fired {
			return err
		}
		return Timers()[kind](ctx, tx, record)
	})
	return fired, err
}

const longLease = time.Hour // nothing here waits for a clock
