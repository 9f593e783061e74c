package bench

import (
	"context"
	"fmt"
	"strconv"
	"sync/atomic"

	"github.com/jackc/pgx/v5/pgxpool"
)

// Limit is the least that storing an inbound message can cost on this machine: one statement that recognizes repeats,
// finds contact and conversation, stores the message, keeps the counters and writes the outbox. No HTTP, no keys, no
// row-level security, no audit log, no leads.
type Limit struct {
	pool *pgxpool.Pool
	body string
	mark string
	n    atomic.Int64
}

const (
	limitDatabase = "limit"
	// Contacts and organizations that the ingest measurements have, the limit's and Tandem's alike.
	Contacts = 100_000
	Orgs     = 20
	// limitPool was the best of 4 to 64 on two processors, by little.
	limitPool = 16
)

const limitSchema = `
create table contact(id bigint generated always as identity primary key, org_id int not null, channel_id int not null, external_id text not null, name text, unique(org_id,channel_id,external_id));
create table conversation(id bigint generated always as identity primary key, org_id int not null, contact_id bigint not null references contact(id), status smallint not null default 0, last_message_at timestamptz not null default now(), preview text, msg_count int not null default 0, unread int not null default 0);
create unique index on conversation(contact_id) where status=0;
create index on conversation(org_id,status,last_message_at desc,id desc);
create table dedupe(org_id int not null, channel_id int not null, ext_msg_id text not null, primary key(org_id,channel_id,ext_msg_id));
create table message(id bigint generated always as identity primary key, org_id int not null, conversation_id bigint not null references conversation(id), dir smallint not null, body text not null, meta jsonb not null, created_at timestamptz not null default now());
create index on message(conversation_id,id);
create table outbox(id bigint generated always as identity primary key, org_id int not null, kind text not null, payload jsonb not null, created_at timestamptz not null default now());`

const limitFill = `
with c as (insert into contact(org_id,channel_id,external_id,name) select 1+(i%$2),1,'ext'||i,'Contact '||i from generate_series(1,$1::int) i returning id, org_id)
insert into conversation(org_id,contact_id) select org_id,id from c`

const limitSQL = `with d as (insert into dedupe(org_id,channel_id,ext_msg_id) values($1,$2,$3) on conflict do nothing returning 1),
 c as (select c.id from contact k join conversation c on c.contact_id=k.id and c.status=0, d where k.org_id=$1 and k.channel_id=$2 and k.external_id=$4),
 m as (insert into message(org_id,conversation_id,dir,body,meta) select $1,c.id,0,$5,$6 from c returning id,conversation_id),
 u as (update conversation v set last_message_at=now(), msg_count=msg_count+1, unread=unread+1, preview=left($5,100) from m where v.id=m.conversation_id)
 insert into outbox(org_id,kind,payload) select $1,'message.created',jsonb_build_object('id',m.id,'conversation_id',m.conversation_id) from m returning id`

const limitMeta = `{"channel":"webhook","provider":"x","reply_to":null,"n":1}`

// limits counts them, for a second one of a run writes into the same tables.
var limits atomic.Int64

// NewLimit makes the limit's database on the cluster. Close it.
func NewLimit(ctx context.Context, e *Env) (*Limit, error) {
	if err := e.Cluster.Provision(ctx, limitDatabase); err != nil {
		return nil, err
	}
	pool, err := e.Cluster.Pool(ctx, limitDatabase, limitPool)
	if err != nil {
		return nil, err
	}
	l := &Limit{pool: pool, body: Text(e.Rand("limit"), 1024), mark: strconv.FormatUint(e.Seed, 36) + "-" + strconv.FormatInt(limits.Add(1), 36)}
	err = l.fill(ctx)
	if err != nil {
		pool.Close()
		return nil, err
	}
	return l, e.Cluster.Settle(ctx, limitDatabase)
}

func (l *Limit) fill(ctx context.Context) error {
	var there bool
	if err := l.pool.QueryRow(ctx, `select to_regclass('contact') is not null`).Scan(&there); err != nil || there {
		return err
	}
	if _, err := l.pool.Exec(ctx, limitSchema); err != nil {
		return fmt.Errorf("make the limit's tables: %w", err)
	}
	if _, err := l.pool.Exec(ctx, limitFill, Contacts, Orgs); err != nil {
		return fmt.Errorf("fill the limit's tables: %w", err)
	}
	return nil
}

// Ingest stores one message for the contact of that number, from 1.
func (l *Limit) Ingest(ctx context.Context, contact int) error {
	n := strconv.FormatInt(l.n.Add(1), 36)
	var id int64
	err := l.pool.QueryRow(ctx, limitSQL, 1+contact%Orgs, 1, "m"+n+l.mark, "ext"+strconv.Itoa(contact), l.body, limitMeta).Scan(&id)
	if err != nil {
		return fmt.Errorf("limit: %w", err)
	}
	return nil
}

// Close ends the connections.
func (l *Limit) Close() { l.pool.Close() }
