package report_test

import (
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/bus"
	"github.com/tandemhq/tandem/crm/report"
	"github.com/tandemhq/tandem/internal/pg/pgtest"
	"github.com/tandemhq/tandem/internal/proof"
)

// whole fails the test unless the rollups say what the events say, and what the records say.
func (w *world) whole(when string) {
	w.Helper()
	w.do(w.system(), func(ctx context.Context, tx pgx.Tx) error {
		rows, hours, err := report.Differences(ctx, tx)
		if rows != 0 || hours != 0 {
			w.Errorf("%s: %d rollups and %d hours differ from the events", when, rows, hours)
		}
		return err
	})
	d := w.dashboard(report.Question{Days: 3})
	// A period in the middle of which this month is, so that it is read as one row.
	now := time.Now()
	long := w.dashboard(report.Question{From: now.AddDate(0, -1, -now.Day()).Format(time.DateOnly), To: now.AddDate(0, 2, 0).Format(time.DateOnly), Zone: "America/New_York"})
	if !reflect.DeepEqual(long.Conversations, d.Conversations) || long.Response.First.All.Count != d.Response.First.All.Count || long.Handoffs.Requested != d.Handoffs.Requested {
		w.Errorf("%s: by the month %+v, by the day %+v", when, long.Conversations, d.Conversations)
	}
	c, h := d.Conversations, d.Handoffs
	var days report.DayFigures
	for _, day := range d.Days {
		days.Received, days.SentPeople, days.SentAI, days.SentByOther = days.Received+day.Received, days.SentPeople+day.SentPeople, days.SentAI+day.SentAI, days.SentByOther+day.SentByOther
		days.Opened, days.Resolved, days.Leads = days.Opened+day.Opened, days.Resolved+day.Resolved, days.Leads+day.Leads
	}
	var replies, answered int64
	for _, m := range d.Members {
		replies, answered = replies+m.Replies, answered+m.Conversations
	}
	// Counted from the records, without a word of how rollups are kept.
	for what, x := range map[string]struct {
		got int64
		sql string
	}{
		"received":            {c.Received, `SELECT count(*) FROM messages WHERE direction = 'inbound'`},
		"received, by day":    {days.Received, `SELECT count(*) FROM messages WHERE direction = 'inbound'`},
		"sent":                {c.Sent, `SELECT count(*) FROM messages WHERE direction = 'outbound' AND sent_at IS NOT NULL`},
		"sent by people":      {days.SentPeople, `SELECT count(*) FROM messages WHERE sender_kind = 'human' AND sent_at IS NOT NULL`},
		"sent by AI members":  {days.SentAI, `SELECT count(*) FROM messages WHERE sender_kind = 'ai' AND sent_at IS NOT NULL`},
		"replies":             {replies, `SELECT count(*) FROM messages WHERE sender_kind IN ('human', 'ai') AND handoff_id IS NULL AND sent_at IS NOT NULL`},
		"opened":              {c.Opened, `SELECT count(*) FROM conversations`},
		"opened, by day":      {days.Opened, `SELECT count(*) FROM conversations`},
		"open now":            {c.Now.Open, `SELECT count(*) FROM conversations WHERE state = 'open'`},
		"snoozed now":         {c.Now.Snoozed, `SELECT count(*) FROM conversations WHERE state = 'snoozed'`},
		"unowned now":         {c.Now.Unowned, `SELECT count(*) FROM conversations WHERE state = 'open' AND owner_id IS NULL`},
		"resolved":            {c.Resolved, `SELECT count(*) FROM events WHERE noun = 'conversation' AND verb = 'resolved' AND changes->0->>'old' NOT IN ('resolved', 'spam')`},
		"times to resolve":    {d.Response.Resolution.People.Count, `SELECT count(*) FROM events WHERE noun = 'conversation' AND verb = 'resolved' AND changes->0->>'old' NOT IN ('resolved', 'spam')`},
		"handoffs requested":  {h.Requested, `SELECT count(*) FROM handoffs`},
		"handoffs accepted":   {h.Accepted, `SELECT count(*) FROM handoffs WHERE state = 'accepted'`},
		"handoffs rejected":   {h.Rejected, `SELECT count(*) FROM handoffs WHERE state = 'rejected'`},
		"handoffs cancelled":  {h.Cancelled, `SELECT count(*) FROM handoffs WHERE state = 'cancelled'`},
		"handoffs waiting":    {h.Waiting.Count, `SELECT count(*) FROM handoffs WHERE state = 'requested'`},
		"times to accept":     {h.ToAccept.Count, `SELECT count(*) FROM handoffs WHERE state = 'accepted'`},
		"leads":               {d.Leads.New, `SELECT count(*) FROM leads`},
		"leads, by day":       {days.Leads, `SELECT count(*) FROM leads`},
		"leads won":           {d.Leads.Won, `SELECT count(*) FROM leads l JOIN stages s ON s.id = l.stage_id WHERE s.kind = 'won'`},
		"open pipeline":       {d.Pipeline.Open.Count, `SELECT count(*) FROM leads WHERE NOT closed`},
		"open pipeline, EUR":  {minor(d.Pipeline.Open, "EUR"), `SELECT coalesce(sum(value_minor), 0)::bigint FROM leads WHERE NOT closed AND currency = 'EUR'`},
		"won pipeline, USD":   {minor(d.Pipeline.Won, "USD"), `SELECT coalesce(sum(value_minor), 0)::bigint FROM leads l JOIN stages s ON s.id = l.stage_id WHERE s.kind = 'won' AND currency = 'USD'`},
		"leads of source 1":   {source(d.Leads, "source 1").New, `SELECT count(*) FROM leads WHERE source = 'source 1'`},
		"leads of no source":  {source(d.Leads, "").New, `SELECT count(*) FROM leads WHERE source = ''`},
		"lost of source 2":    {source(d.Leads, "source 2").Lost, `SELECT count(*) FROM leads l JOIN stages s ON s.id = l.stage_id WHERE s.kind = 'lost' AND source = 'source 2'`},
		"members who replied": {int64(replied(d.Members)), `SELECT count(DISTINCT sender_id) FROM messages WHERE sender_kind IN ('human', 'ai') AND handoff_id IS NULL AND sent_at IS NOT NULL`},
	} {
		if want := w.one(x.sql); x.got != want {
			w.Errorf("%s: %s: %d, the records say %d", when, what, x.got, want)
		}
	}
	if first := d.Response.First; first.All.Count != first.People.Count+first.AI.Count || first.All.Count > replies || answered > replies || answered < first.All.Count {
		w.Errorf("%s: %d first answers (%d of people, %d of AI members), %d conversations answered, %d replies", when, first.All.Count, first.People.Count, first.AI.Count, answered, replies)
	}
}

func minor(v report.Worth, currency string) int64 {
	for _, a := range v.Values {
		if a.Currency == currency {
			return a.Minor
		}
	}
	return 0
}

func source(l report.LeadFigures, name string) report.SourceFigures {
	for _, s := range l.BySource {
		if s.Name != nil && *s.Name == name {
			return s
		}
	}
	return report.SourceFigures{}
}

func replied(list []report.MemberFigures) (n int) {
	for _, m := range list {
		if m.Replies > 0 {
			n++
		}
	}
	return n
}

// Whatever happens to the bus, each fact is counted once: acknowledgements are lost, two processes take facts, the whole
// store of the bus is deleted, and organizations are counted anew while facts come in.
func TestEachFactCountsOnce(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	r := proof.Rand(t)
	worlds := []*world{newWorld(t, db, "acme"), newWorld(t, db, "bolt")}
	steps := proof.Size(150, 2000)
	traffic := func() {
		for range steps {
			worlds[r.IntN(2)].sell(r)
		}
	}
	dir := filepath.Join(t.TempDir(), "bus")
	var mu sync.Mutex
	loss := rand.New(rand.NewPCG(r.Uint64(), 1))
	unheard := func(bus.Msg) bool {
		mu.Lock()
		defer mu.Unlock()
		return loss.IntN(3) == 0
	}
	stop := machinery(t, db, dir, unheard)
	traffic()
	stop() // in the middle of it
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	traffic()
	stop = machinery(t, db, dir, unheard)
	for range 3 {
		if n, err := report.Ask(t.Context(), db, ""); err != nil || n != 2 {
			t.Fatalf("asked for %d organizations to be counted anew: %v", n, err)
		}
		traffic()
	}
	worlds[0].handover(r) // which chance may have left out
	worlds[0].settled()
	for _, w := range worlds {
		w.whole(w.board.Name)
	}
	stop()
	n := worlds[0].one(`SELECT count(*) FROM events`) + worlds[1].one(`SELECT count(*) FROM events`)
	t.Logf("figure: %d events of two organizations, a third of the acknowledgements lost, the bus deleted once, all counted anew three times: 0 differences", n)

	for _, m := range []string{"received", "sent", "resolution", "reply", "answered", "accepted", "lead"} {
		if worlds[0].one(`SELECT count(*) FROM rollups WHERE measure = '`+m+`'`) == 0 {
			t.Errorf("nothing was %s in this world", m)
		}
	}

	// The comparison sees what is wrong.
	w := worlds[0]
	w.do(w.system(), func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `UPDATE rollups SET n = n + 1 WHERE measure = 'reply' AND grain = 'day'`); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `UPDATE rollup_hours SET leads = leads + 1`); err != nil {
			return err
		}
		rows, hours, err := report.Differences(ctx, tx)
		if rows == 0 || hours == 0 {
			t.Errorf("wrong rollups: %d and %d differences", rows, hours)
		}
		return err
	})
	// To count anew mends it.
	w.do(w.system(), func(ctx context.Context, tx pgx.Tx) error { _, err := report.Build(ctx, tx); return err })
	w.whole("counted anew")
}

// Organizations that existed before there were rollups have events that nobody is told of any more.
func TestOldEventsAreCounted(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	w := newWorld(t, db, "elder")
	r := proof.Rand(t)
	for range 100 {
		w.sell(r)
	}
	// As the migration leaves such an organization, its older facts long done.
	w.do(w.system(), func(ctx context.Context, tx pgx.Tx) error {
		for _, q := range []string{
			`DELETE FROM outbox WHERE id % 3 > 0`,
			`INSERT INTO rollup_state (org_id) SELECT id FROM organizations`,
			`INSERT INTO timers (kind, org_id, record_id, due_at) SELECT 'rollups', id, id, now() FROM organizations`,
		} {
			if _, err := tx.Exec(ctx, q); err != nil {
				return err
			}
		}
		return nil
	})
	stop := machinery(t, db, filepath.Join(t.TempDir(), "bus"), nil)
	for range 50 {
		w.sell(r)
	}
	w.settled()
	w.whole("after the first start")
	stop()
	if _, err := report.Ask(t.Context(), db, tandem.NewID()); tandem.KindOf(err) != tandem.NotFound {
		t.Errorf("ask for an organization that there is not: %v", err)
	}
}
