package crm_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/crm"
	"github.com/tandemhq/tandem/internal/pg/pgtest"
	"github.com/tandemhq/tandem/migrations"
)

func (h *hub) archiveBoard(id tandem.ID) error {
	return h.try(h.human, func(ctx context.Context, tx pgx.Tx) error { return crm.Boards.Archive(ctx, tx, id, nil) })
}

func (h *hub) archiveStage(id tandem.ID) error {
	return h.try(h.human, func(ctx context.Context, tx pgx.Tx) error { return crm.Stages.Archive(ctx, tx, id, nil) })
}

func (h *hub) setBoard(id tandem.ID, body string) (b crm.Board, err error) {
	err = h.try(h.human, func(ctx context.Context, tx pgx.Tx) (err error) {
		b, err = crm.Boards.Patch(ctx, tx, id, []byte(body), nil)
		return err
	})
	return b, err
}

func (h *hub) setStage(id tandem.ID, body string) (s crm.Stage, err error) {
	err = h.try(h.human, func(ctx context.Context, tx pgx.Tx) (err error) {
		s, err = crm.Stages.Patch(ctx, tx, id, []byte(body), nil)
		return err
	})
	return s, err
}

// order is a board's stages as it shows them, and whether their positions are 1, 2, 3 and so on.
func (h *hub) order(board tandem.ID) string {
	h.t.Helper()
	var names []string
	h.tx(h.human, func(ctx context.Context, tx pgx.Tx) error {
		b, err := crm.Boards.Get(ctx, tx, board)
		for i, s := range b.Stages {
			names = append(names, s.Name)
			if s.Position != i+1 {
				h.t.Errorf("%s is at %d, want %d", s.Name, s.Position, i+1)
			}
		}
		return err
	})
	return strings.Join(names, " ")
}

func TestOneDefaultBoardOfAKind(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	var ids []tandem.ID
	for i := range 4 {
		b, err := add(h, crm.Boards, fmt.Sprintf(`{"name":"Board %d"}`, i))
		if err != nil || b.IsDefault || b.Kind != "lead" || len(b.Stages) != 5 {
			t.Fatalf("%+v, %v", b, err)
		}
		ids = append(ids, b.ID)
	}
	deals, err := add(h, crm.Boards, `{"name":"Deals","kind":"deal"}`)
	if err != nil || !deals.IsDefault || *deals.Stages[2].Probability != 70 || *deals.Stages[3].Probability != 100 {
		t.Errorf("the first board for deals: %+v, %v", deals, err)
	}
	_, err = h.setBoard(h.board.ID, `{"is_default":false}`)
	want(t, err, tandem.Conflict, "no default board")
	want(t, h.archiveBoard(h.board.ID), tandem.Conflict, "archive the default board")
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			if _, err := h.setBoard(ids[i%len(ids)], `{"is_default":true}`); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := h.count(`SELECT count(*) FROM boards WHERE kind = 'lead' AND is_default`); n != 1 {
		t.Errorf("%d default boards", n)
	}
	// Each change of hands is told by both boards.
	taken := h.count(`SELECT count(*) FROM events WHERE noun = 'board' AND verb = 'updated' AND changes @> '[{"field":"is_default","new":true}]'`)
	if given := h.count(`SELECT count(*) FROM events WHERE noun = 'board' AND verb = 'updated' AND changes @> '[{"field":"is_default","new":false}]'`); given != taken || taken == 0 {
		t.Errorf("%d boards became the default, %d were deposed", taken, given)
	}
	for _, body := range []string{`{"name":"x","kind":"task"}`, `{"name":" "}`, `{"name":"x","stages":[]}`, `{"name":"x","stages":[{"name":"A","position":3}]}`, `{"name":"x","stages":[{"name":"A","probability":101}]}`} {
		_, err := add(h, crm.Boards, body)
		want(t, err, tandem.Invalid, body)
	}
	for name, fn := range map[string]func(ctx context.Context, tx pgx.Tx) error{
		"make a board": func(ctx context.Context, tx pgx.Tx) error {
			_, err := crm.Boards.Create(ctx, tx, crm.Board{Name: "x"})
			return err
		},
		"archive a board": func(ctx context.Context, tx pgx.Tx) error { return crm.Boards.Archive(ctx, tx, ids[0], nil) },
		"change a stage": func(ctx context.Context, tx pgx.Tx) error {
			_, err := crm.Stages.Patch(ctx, tx, h.board.Stages[0].ID, []byte(`{"name":"x"}`), nil)
			return err
		},
	} {
		// The role does not allow it, and neither does what the member is.
		want(t, h.try(h.ai, fn), tandem.Forbidden, "an AI member may not "+name)
		want(t, h.try(h.machine(), fn), tandem.Forbidden, "an AI member with every permission may not "+name)
	}
}

// machine is an AI member that holds every permission.
func (h *hub) machine() context.Context {
	h.t.Helper()
	a, err := tandem.ActorFrom(h.human)
	if err != nil {
		h.t.Fatal(err)
	}
	a.Member, a.Kind, a.Name = h.ava.ID, tandem.AI, h.ava.Name
	return tandem.WithActor(h.t.Context(), a)
}

func TestStagesMakeRoom(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	ids := map[string]tandem.ID{}
	for _, s := range h.board.Stages {
		ids[s.Name] = s.ID
	}
	at := func(n int) string { return fmt.Sprintf(`{"position":%d}`, n) }
	for _, step := range []struct {
		stage, body, want string
	}{
		{"Lost", at(1), "Lost New Qualified Won"},
		{"Lost", at(3), "New Qualified Lost Won"},
		{"New", at(99), "Qualified Lost Won New"},
		{"Qualified", at(1), "Qualified Lost Won New"},
		{"New", `{"position":1,"name":"Fresh"}`, "Fresh Qualified Lost Won"},
	} {
		if _, err := h.setStage(ids[step.stage], step.body); err != nil {
			t.Fatal(err)
		}
		if got := h.order(h.board.ID); got != step.want {
			t.Errorf("%s %s: %s, want %s", step.stage, step.body, got, step.want)
		}
	}
	s, err := add(h, crm.Stages, `{"board_id":"`+string(h.board.ID)+`","name":"Trial","position":2,"exit_criteria":[" Signed ",""]}`)
	if err != nil || !slices.Equal(s.ExitCriteria, []string{"Signed"}) || *s.Probability != 0 || h.order(h.board.ID) != "Fresh Trial Qualified Lost Won" {
		t.Errorf("%+v, %v: %s", s, err, h.order(h.board.ID))
	}
	if err := h.archiveStage(s.ID); err != nil || h.order(h.board.ID) != "Fresh Qualified Lost Won" {
		t.Errorf("archived: %v, %s", err, h.order(h.board.ID))
	}
	if _, err := add(h, crm.Stages, `{"board_id":"`+string(h.board.ID)+`","name":"Trial"}`); err != nil || h.order(h.board.ID) != "Fresh Qualified Lost Won Trial" {
		t.Errorf("the name of an archived stage: %v, %s", err, h.order(h.board.ID))
	}
	restore := func() error {
		return h.try(h.human, func(ctx context.Context, tx pgx.Tx) error { _, err := crm.Stages.Restore(ctx, tx, s.ID); return err })
	}
	want(t, restore(), tandem.Conflict, "restoring a name that is taken again")
	if _, err := h.setStage(s.ID, `{"name":"x"}`); tandem.KindOf(err) != tandem.NotFound {
		t.Errorf("an archived stage: %v", err)
	}
	if won, err := h.setStage(ids["Won"], `{"kind":"lost"}`); err != nil || *won.Probability != 0 {
		t.Errorf("another kind: %+v, %v", won, err)
	}
	for _, body := range []string{`{"position":0}`, `{"position":"x"}`, `{"position":null}`, `{"kind":"maybe"}`, `{"probability":101}`, `{"color":"red"}`, `{"board_id":"x"}`} {
		_, err := h.setStage(ids["Lost"], body)
		want(t, err, tandem.Invalid, body)
	}
	_, err = h.setStage(ids["Lost"], `{"probability":10}`)
	want(t, err, tandem.Invalid, "a lost stage with a probability")
	// Those who move stages of one board at once wait for each other.
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			if _, err := h.setStage(ids[[]string{"Lost", "Won", "New", "Qualified"}[i%4]], at(1+i%5)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := strings.Fields(h.order(h.board.ID)); len(got) != 5 {
		t.Errorf("stages after all: %v", got)
	}
}

func TestWhatIsInUseIsNotArchived(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	b, err := add(h, crm.Boards, `{"name":"Partners","stages":[{"name":"Talk"},{"name":"Signed","kind":"won"}]}`)
	if err != nil {
		t.Fatal(err)
	}
	l, _ := h.lead(crm.NewLead{Contact: h.contact("ada@example.com", "Ada").ID, Board: b.ID})
	want(t, h.archiveBoard(b.ID), tandem.Conflict, "a board with an open lead")
	want(t, h.archiveStage(b.Stages[0].ID), tandem.Conflict, "a stage with a lead")
	_, err = h.setStage(b.Stages[0].ID, `{"kind":"lost"}`)
	want(t, err, tandem.Conflict, "another kind for a stage with a lead")
	move := func(stage tandem.ID) error {
		return h.try(h.human, func(ctx context.Context, tx pgx.Tx) error {
			_, err := crm.Leads.Move(ctx, tx, l.ID, crm.LeadMove{Stage: stage})
			return err
		})
	}
	if err := move(b.Stages[1].ID); err != nil {
		t.Fatal(err)
	}
	want(t, h.archiveStage(b.Stages[0].ID), tandem.Conflict, "the only open stage")
	if err := h.archiveBoard(b.ID); err != nil {
		t.Fatalf("a board whose leads are closed: %v", err)
	}
	want(t, move(b.Stages[0].ID), tandem.Invalid, "reopen on an archived board")
	_, _, err = h.openLead(crm.NewLead{Contact: h.contact("bob@example.com", "Bob").ID, BoardName: "Partners"})
	want(t, err, tandem.Invalid, "a lead on an archived board")
	_, err = add(h, crm.Stages, `{"board_id":"`+string(b.ID)+`","name":"More"}`)
	want(t, err, tandem.Invalid, "a stage on an archived board")
	again := func() error {
		return h.try(h.human, func(ctx context.Context, tx pgx.Tx) error {
			if err := crm.Leads.Archive(ctx, tx, l.ID, nil); err != nil {
				return err
			}
			_, err := crm.Leads.Restore(ctx, tx, l.ID)
			return err
		})
	}
	want(t, again(), tandem.Conflict, "restore a lead whose board is archived")
	h.tx(h.human, func(ctx context.Context, tx pgx.Tx) error { _, err := crm.Boards.Restore(ctx, tx, b.ID); return err })
	if err := again(); err != nil {
		t.Errorf("restore a lead whose board is there again: %v", err)
	}
	if err := move(b.Stages[0].ID); err != nil {
		t.Errorf("reopen on a restored board: %v", err)
	}
}

func (h *hub) openLead(in crm.NewLead) (l crm.Lead, made bool, err error) {
	err = h.try(h.sys, func(ctx context.Context, tx pgx.Tx) (err error) {
		l, made, err = crm.Leads.OpenOrFind(ctx, tx, in)
		return err
	})
	return l, made, err
}

// Whoever opens a lead while its board or stage is archived is in time or is refused: nothing open stands on what is archived.
func TestArchivingRacesOpening(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	for round := range 8 {
		b, err := add(h, crm.Boards, fmt.Sprintf(`{"name":"Board %d","stages":[{"name":"First"},{"name":"Second"}]}`, round))
		if err != nil {
			t.Fatal(err)
		}
		var contacts []tandem.ID
		for i := range 4 {
			contacts = append(contacts, h.contact(fmt.Sprintf("c%d-%d@example.com", round, i), "C").ID)
		}
		var wg sync.WaitGroup
		for i, c := range contacts {
			wg.Go(func() {
				if _, _, err := h.openLead(crm.NewLead{Contact: c, Board: b.ID}); err != nil && tandem.KindOf(err) != tandem.Invalid {
					t.Error(err)
				}
			})
			if i == 1 {
				wg.Go(func() {
					err := h.archiveStage(b.Stages[0].ID)
					if round%2 == 0 {
						err = h.archiveBoard(b.ID)
					}
					if err != nil && tandem.KindOf(err) != tandem.Conflict {
						t.Error(err)
					}
				})
			}
		}
		wg.Wait()
	}
	if n := h.count(`SELECT count(*) FROM leads l JOIN stages s ON s.id = l.stage_id JOIN boards b ON b.id = l.board_id
		WHERE NOT l.closed AND (s.archived_at IS NOT NULL OR b.archived_at IS NOT NULL)`); n != 0 {
		t.Errorf("%d open leads stand on what is archived", n)
	}
}

// Organizations from before have a board for deals like new ones, whatever their boards are called, and their leads' moves
// are remembered.
func TestBoardsFromBefore(t *testing.T) {
	t.Parallel()
	old := newHub(t)
	if _, err := add(old, crm.Boards, `{"name":"Deals"}`); err != nil {
		t.Fatal(err)
	}
	text, err := migrations.FS.ReadFile("00022_boards.sql")
	if err != nil {
		t.Fatal(err)
	}
	_, seed, _ := strings.Cut(string(text), "-- What a new organization begins with")
	seed, _, _ = strings.Cut("--"+seed, "ALTER TABLE boards FORCE")
	l, _ := old.lead(crm.NewLead{Contact: old.contact("ada@example.com", "Ada").ID})
	for _, i := range []int{1, 3} {
		old.tx(old.human, func(ctx context.Context, tx pgx.Tx) error {
			_, err := crm.Leads.Move(ctx, tx, l.ID, crm.LeadMove{Stage: old.board.Stages[i].ID})
			return err
		})
	}
	was := old.path(crm.Leads, l.ID)
	history, err := migrations.FS.ReadFile("00024_stage_history.sql")
	if err != nil {
		t.Fatal(err)
	}
	_, up, _ := strings.Cut(string(history), "-- +goose Up")
	_, err = pgtest.Connect(t, old.db, pgtest.Owner).Exec(t.Context(), "ALTER TABLE boards NO FORCE ROW LEVEL SECURITY; ALTER TABLE stages NO FORCE ROW LEVEL SECURITY;"+
		seed+"ALTER TABLE boards FORCE ROW LEVEL SECURITY; ALTER TABLE stages FORCE ROW LEVEL SECURITY; DROP TABLE stage_history;"+up)
	if err != nil {
		t.Fatal(err)
	}
	if is := old.path(crm.Leads, l.ID); is != was || was != "New Qualified Lost" {
		t.Errorf("the lead's way was %q, is %q", was, is)
	}
	fresh := addOrg(t, old.db, "fresh")
	fresh.tx(fresh.sys, func(ctx context.Context, tx pgx.Tx) error { _, err := crm.SeedDealBoard(ctx, tx); return err })
	shape := func(h *hub) (s string) {
		h.tx(h.human, func(ctx context.Context, tx pgx.Tx) error {
			p, err := crm.Boards.List(ctx, tx, tandem.Query{Filter: map[string]string{"kind": "deal"}})
			for _, b := range p.Items {
				s += fmt.Sprint(b.IsDefault, strings.HasPrefix(b.Name, "Deals"))
				for _, st := range b.Stages {
					s += fmt.Sprint(" ", st.Name, st.Position, st.Kind, *st.Probability)
				}
			}
			return err
		})
		return s
	}
	if a, b := shape(old), shape(fresh); a != b || !strings.Contains(a, "Negotiation3open70") {
		t.Errorf("an old organization has %s, a new one %s", a, b)
	}
}
