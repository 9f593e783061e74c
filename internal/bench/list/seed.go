package list

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/channels/webhook"
	"github.com/tandemhq/tandem/inbox"
	"github.com/tandemhq/tandem/internal/bench"
	"github.com/tandemhq/tandem/internal/pg"
	"github.com/tandemhq/tandem/internal/pg/local"
	"github.com/tandemhq/tandem/migrations"
	"github.com/tandemhq/tandem/team"
)

const (
	orgs        = 20 // the first has half of the conversations
	messages    = 2  // of each conversation: no list reads them, and ten would take minutes to make
	people      = 8  // of each organization, beside its owner
	dataSeed    = 1  // of every choice in the rows: one for all runs, so that a later run finds the rows of an earlier one
	dataVersion = 2  // raise it when what is below makes other rows
)

// dataset is a database of conversations and what is needed to ask for those of its largest organization.
type dataset struct {
	*bench.Database
	conversations int
	org           tandem.ID // the largest
	owner         tandem.ID // its owner, as whom key reads
	key           string
}

// open returns the database of that many conversations: the one an earlier run left in the cluster when its seed, its
// schema and its size are the wanted ones, else a new one.
func open(ctx context.Context, e *bench.Env, c *bench.Cluster, conversations int) (*dataset, error) {
	name := fmt.Sprintf("lists_%d", conversations)
	schema, err := schema()
	if err != nil {
		return nil, err
	}
	mark := fmt.Sprintf("lists %d: %d conversations of %d messages, schema %s, seed %d", dataVersion, conversations, messages, schema, dataSeed)
	fresh, err := discardUnless(ctx, c, name, mark)
	if err != nil {
		return nil, err
	}
	d := &dataset{conversations: conversations}
	if d.Database, err = c.OpenDatabase(ctx, name); err != nil {
		return nil, err
	}
	if fresh {
		began := time.Now()
		if err := d.fill(ctx, e, mark); err != nil {
			d.Close()
			return nil, err
		}
		e.Log("made %d conversations with %d messages in %v", conversations, conversations*messages, time.Since(began).Round(100*time.Millisecond))
	}
	if err := d.enter(ctx); err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

// schema names the migrations as they are now: while one is being written, its number says too little.
func schema() (string, error) {
	files, err := fs.Glob(migrations.FS, "*.sql")
	if err != nil {
		return "", fmt.Errorf("list the migrations: %w", err)
	}
	sum := sha256.New()
	for _, name := range files {
		b, err := migrations.FS.ReadFile(name)
		if err != nil {
			return "", fmt.Errorf("read migration %s: %w", name, err)
		}
		sum.Write(b)
	}
	return hex.EncodeToString(sum.Sum(nil)[:8]), nil
}

// discardUnless drops a database that does not carry the mark, and reports whether there is none now.
func discardUnless(ctx context.Context, c *bench.Cluster, name, mark string) (gone bool, err error) {
	conn, err := pgx.Connect(ctx, c.DSN("postgres", local.Super))
	if err != nil {
		return false, fmt.Errorf("look for %s: %w", name, err)
	}
	defer conn.Close(ctx)
	var found string
	err = conn.QueryRow(ctx, `SELECT coalesce(shobj_description(oid, 'pg_database'), '') FROM pg_database WHERE datname = $1`, name).Scan(&found)
	if err != nil && !pg.NoRows(err) {
		return false, fmt.Errorf("look for %s: %w", name, err)
	}
	if err == nil && found == mark {
		return false, nil
	}
	if _, err := conn.Exec(ctx, "DROP DATABASE IF EXISTS "+pgx.Identifier{name}.Sanitize()+" WITH (FORCE)"); err != nil {
		return false, fmt.Errorf("drop %s: %w", name, err)
	}
	return true, nil
}

// readSQL reads every page that a list may need once: a database in use is in the system's memory, and how fast this
// machine's disk is is not the question. With 128 MB of buffers of its own PostgreSQL still has to fetch them from there.
const readSQL = `SELECT (SELECT sum(length(preview)) FROM conversations), (SELECT sum(length(name)) FROM contacts), (SELECT sum(length(title)) FROM leads)`

// enter finds the largest organization and makes an API key of its owner, whose secret no run leaves behind.
func (d *dataset) enter(ctx context.Context) error {
	pool, err := d.Cluster.Pool(ctx, d.Name, 1)
	if err != nil {
		return err
	}
	defer pool.Close()
	err = pool.QueryRow(ctx, `SELECT o.id, m.id FROM organizations o JOIN members m ON m.org_id = o.id AND m.role = 'owner' WHERE o.name = 'Lists 1'`).Scan(&d.org, &d.owner)
	if err != nil {
		return fmt.Errorf("find the largest organization: %w", err)
	}
	if _, err := pool.Exec(ctx, readSQL); err != nil {
		return fmt.Errorf("read the tables: %w", err)
	}
	err = d.DB.Tx(tandem.AsSystem(ctx, d.org), func(ctx context.Context, tx pgx.Tx) (err error) {
		d.key, _, err = team.CreateKey(ctx, tx, "Lists", d.owner, nil)
		return err
	})
	if err != nil {
		return fmt.Errorf("make an API key: %w", err)
	}
	return nil
}

// fill makes the rows with one statement per table and organization, without triggers and foreign keys, and the indexes
// after them.
func (d *dataset) fill(ctx context.Context, e *bench.Env, mark string) error {
	pool, err := d.Cluster.Pool(ctx, d.Name, 3)
	if err != nil {
		return err
	}
	defer pool.Close()
	for _, q := range []string{
		"ALTER DATABASE " + d.Name + " SET session_replication_role = replica",
		"ALTER DATABASE " + d.Name + " SET maintenance_work_mem = '512MB'",
		"ALTER DATABASE " + d.Name + " SET synchronous_commit = off",
		makeID,
	} {
		if _, err := pool.Exec(ctx, q); err != nil {
			return fmt.Errorf("%s: %w", q, err)
		}
	}
	pool.Reset() // the settings are of new sessions
	indexes, err := dropIndexes(ctx, pool)
	if err != nil {
		return err
	}
	share := func(i int) int {
		if i == 0 {
			return d.conversations / 2
		}
		return d.conversations / 2 / (orgs - 1)
	}
	texts := make([]string, 1000)
	r := rand.New(rand.NewPCG(dataSeed, 1))
	for i := range texts {
		texts[i] = bench.Text(r, 60+r.IntN(180))
	}
	var threads, lines errgroup.Group
	threads.SetLimit(1)
	lines.SetLimit(1)
	for i := range orgs {
		args, err := d.newOrg(ctx, pool, i)
		if err != nil {
			return err
		}
		args["n"], args["seed"], args["texts"] = share(i), int64(dataSeed*1000+i), texts
		threads.Go(func() error { return run(ctx, pool, args, contactsSQL, leadsSQL, conversationsSQL, handoffsSQL) })
		lines.Go(func() error { return run(ctx, pool, args, messagesSQL) })
	}
	if err := threads.Wait(); err != nil {
		return err
	}
	if err := lines.Wait(); err != nil {
		return err
	}
	var build errgroup.Group
	build.SetLimit(2)
	for _, def := range indexes {
		build.Go(func() error {
			if _, err := pool.Exec(ctx, def); err != nil {
				return fmt.Errorf("%s: %w", def, err)
			}
			return nil
		})
	}
	if err := build.Wait(); err != nil {
		return err
	}
	for _, q := range []string{
		"DROP FUNCTION bench_id",
		"ALTER DATABASE " + d.Name + " RESET ALL",
		"VACUUM (ANALYZE)",
		"CHECKPOINT",
		"COMMENT ON DATABASE " + d.Name + " IS '" + mark + "'", // last: an unfinished database has none
	} {
		if _, err := pool.Exec(ctx, q); err != nil {
			return fmt.Errorf("%s: %w", q, err)
		}
	}
	return nil
}

// newOrg makes an organization by the product's own functions and its people by SQL. It returns the ids that the rows need.
func (d *dataset) newOrg(ctx context.Context, pool *pgxpool.Pool, i int) (pgx.NamedArgs, error) {
	o, err := d.NewOrg(ctx, fmt.Sprintf("Lists %d", i+1), &team.AIProfile{Provider: "rules", Persona: "Answers."})
	if err != nil {
		return nil, err
	}
	rows, err := pool.Query(ctx, peopleSQL, pgx.NamedArgs{"org": o.ID, "people": people})
	if err != nil {
		return nil, fmt.Errorf("make people: %w", err)
	}
	staff, err := pgx.AppendRows([]tandem.ID{o.Owner.ID}, rows, pgx.RowTo[tandem.ID])
	if err != nil {
		return nil, fmt.Errorf("make people: %w", err)
	}
	channels := []tandem.ID{o.Form.ID}
	err = d.DB.Tx(tandem.AsSystem(ctx, o.ID), func(ctx context.Context, tx pgx.Tx) error {
		for _, name := range []string{"Shop", "Fair"} {
			c, err := d.Inbox.Channels.Create(ctx, tx, inbox.NewChannel{Kind: webhook.Kind.Name, Name: name})
			if err != nil {
				return err
			}
			channels = append(channels, c.ID)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("make channels: %w", err)
	}
	var stages []tandem.ID
	for _, s := range o.Board.Stages {
		stages = append(stages, s.ID)
	}
	return pgx.NamedArgs{"org": o.ID, "board": o.Board.ID, "stages": stages, "channels": channels, "staff": staff, "ai": o.AI.ID}, nil
}

func run(ctx context.Context, pool *pgxpool.Pool, args pgx.NamedArgs, statements ...string) error {
	for _, q := range statements {
		if _, err := pool.Exec(ctx, q, args); err != nil {
			return fmt.Errorf("%s: %w", strings.Join(strings.Fields(q), " "), err)
		}
	}
	return nil
}

// dropIndexes drops every index of the large tables that is no constraint and returns how to make them again.
func dropIndexes(ctx context.Context, pool *pgxpool.Pool) ([]string, error) {
	rows, err := pool.Query(ctx, `
		SELECT i.indexrelid::regclass::text AS name, pg_get_indexdef(i.indexrelid) AS def FROM pg_index i
		WHERE i.indrelid = ANY (ARRAY['contacts', 'leads', 'conversations', 'messages', 'handoffs']::regclass[])
		  AND NOT EXISTS (SELECT FROM pg_constraint c WHERE c.conindid = i.indexrelid)`)
	if err != nil {
		return nil, fmt.Errorf("list indexes: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[struct{ Name, Def string }])
	if err != nil {
		return nil, fmt.Errorf("list indexes: %w", err)
	}
	var defs []string
	for _, x := range list {
		if _, err := pool.Exec(ctx, "DROP INDEX "+x.Name); err != nil {
			return nil, fmt.Errorf("drop %s: %w", x.Name, err)
		}
		defs = append(defs, x.Def)
	}
	return defs, nil
}
