package team

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/pg"
	"github.com/tandemhq/tandem/internal/pg/pgtest"
	"github.com/tandemhq/tandem/internal/seal"
)

const password = "correct horse battery"

func mustOrg(t *testing.T, db *pg.DB, name string) (Org, Member, context.Context) {
	t.Helper()
	o, owner, err := CreateOrg(t.Context(), db, NewOrg{Name: name, OwnerName: "Sam", OwnerEmail: name + "@example.com", OwnerPassword: password})
	if err != nil {
		t.Fatal(err)
	}
	return o, owner, tandem.AsSystem(t.Context(), o.ID)
}

func must(t *testing.T, db *pg.DB, ctx context.Context, fn pg.TxFunc) {
	t.Helper()
	if err := db.Tx(ctx, fn); err != nil {
		t.Fatal(err)
	}
}

func want(t *testing.T, err error, k tandem.Kind, what string) {
	t.Helper()
	if err == nil || tandem.KindOf(err) != k {
		t.Errorf("%s: got %v, want %s", what, err, k)
	}
}

func human(a tandem.Actor, t *testing.T) context.Context { return tandem.WithActor(t.Context(), a) }

func TestCreateOrgMakesOwnerAndFallbackTeam(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	o, owner, sys := mustOrg(t, db, "acme")
	if o.Currency != "EUR" || owner.Role != Owner || owner.Kind != tandem.Human || owner.Email != "acme@example.com" || owner.Status != "active" {
		t.Errorf("%+v %+v", o, owner)
	}
	var fallback Team
	var topics []string
	must(t, db, sys, func(ctx context.Context, tx pgx.Tx) (err error) {
		if fallback, err = Teams.Fallback(ctx, tx); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, "SELECT noun || '.' || verb FROM events ORDER BY seq")
		if err != nil {
			return err
		}
		topics, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	})
	if fallback.Name != "Team" || !slices.Equal(fallback.Members, []tandem.ID{owner.ID}) {
		t.Errorf("fallback team %+v", fallback)
	}
	if !slices.Equal(topics, []string{"organization.created", "member.created", "team.created"}) {
		t.Errorf("events %v", topics)
	}
	_, _, err := CreateOrg(t.Context(), db, NewOrg{Name: "Twice", OwnerName: "Sam", OwnerEmail: " ACME@Example.com", OwnerPassword: password})
	want(t, err, tandem.Conflict, "an e-mail address with an account")
	var orgs int
	if err := pgtest.Connect(t, db, pgtest.Super).QueryRow(t.Context(), "SELECT count(*) FROM organizations").Scan(&orgs); err != nil || orgs != 1 {
		t.Errorf("%d organizations, %v: the refused one was left behind", orgs, err)
	}
	for name, in := range map[string]NewOrg{
		"no name": {OwnerName: "S", OwnerEmail: "s@example.com", OwnerPassword: password}, "currency": {Name: "A", Currency: "euro", OwnerName: "S", OwnerEmail: "s@example.com", OwnerPassword: password},
		"e-mail": {Name: "A", OwnerName: "S", OwnerEmail: "nope", OwnerPassword: password}, "short password": {Name: "A", OwnerName: "S", OwnerEmail: "s@example.com", OwnerPassword: "eleven char"},
		"one character": {Name: "A", OwnerName: "S", OwnerEmail: "s@example.com", OwnerPassword: strings.Repeat("a", 20)}, "region": {Name: "A", Region: "Germany", OwnerName: "S", OwnerEmail: "s@example.com", OwnerPassword: password},
	} {
		_, _, err := CreateOrg(t.Context(), db, in)
		want(t, err, tandem.Invalid, name)
	}
}

func TestSessionsFromLoginToLogout(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	o, owner, sys := mustOrg(t, db, "acme")
	now := time.Now()
	g := newGate(func() time.Time { return now })
	login := func() string {
		t.Helper()
		token, a, me, err := g.login(t.Context(), db, Credentials{Email: "Acme@example.com ", Password: password, UserAgent: "Test\x00Browser", IP: "192.0.2.1"})
		if err != nil {
			t.Fatal(err)
		}
		if a.Member != owner.ID || a.Org != o.ID || !a.May("member:write") || me.Member.Name != "Sam" || me.Org.Name != "acme" || len(me.Permissions) != len(Permissions) {
			t.Fatalf("%+v %+v", a, me)
		}
		return token
	}
	one, two := login(), login()
	if one == two || len(one) < 43 {
		t.Errorf("tokens %q and %q: every login needs a new one of 256 bits", one, two)
	}
	stored := dump(t, db, "sessions", "doors")
	if strings.Contains(stored, one) {
		t.Error("the token is stored in plain")
	}
	as := func(token string) (tandem.Actor, Session, error) {
		now = now.Add(time.Second) // past the cache
		return g.actorBySession(t.Context(), db, token)
	}
	a, s, err := as(one)
	if err != nil || a.Member != owner.ID || a.Kind != tandem.Human || a.Chain == "" || s.UserAgent != "TestBrowser" {
		t.Fatalf("%+v %+v %v", a, s, err)
	}
	if age := s.ExpiresAt.Sub(s.CreatedAt); age != SessionMaxAge {
		t.Errorf("lives %v at most, want %v", age, SessionMaxAge)
	}
	if err := g.logout(t.Context(), db, one); err != nil {
		t.Fatal(err)
	}
	if err := g.logout(t.Context(), db, one); err != nil {
		t.Errorf("logging out twice: %v", err)
	}
	_, _, err = g.actorBySession(t.Context(), db, one) // at once, in spite of the cache
	want(t, err, tandem.Unauthenticated, "after logout")
	if _, _, err = as(two); err != nil {
		t.Errorf("the other session: %v", err)
	}
	for _, token := range []string{"", "x", two + "x", strings.ToUpper(two), two[1:], string(make([]byte, 5000))} {
		_, _, err = as(token)
		want(t, err, tandem.Unauthenticated, "a made-up token")
	}
	set := func(sql string) {
		t.Helper()
		must(t, db, sys, func(ctx context.Context, tx pgx.Tx) error { _, err := tx.Exec(ctx, sql); return err })
	}
	set("UPDATE sessions SET last_seen_at = now() - interval '11 hours 59 minutes'")
	if _, _, err = as(two); err != nil {
		t.Errorf("idle for less than 12 hours: %v", err)
	}
	// That use kept it alive: it is fresh again.
	if _, s, err = as(two); err != nil || time.Since(s.LastSeenAt) > time.Minute {
		t.Errorf("last seen %v, %v", s.LastSeenAt, err)
	}
	set("UPDATE sessions SET last_seen_at = now() - interval '12 hours 1 second'")
	_, _, err = as(two)
	want(t, err, tandem.Unauthenticated, "idle for 12 hours")
	three := login()
	set("UPDATE sessions SET expires_at = now() - interval '1 second'")
	_, _, err = as(three)
	want(t, err, tandem.Unauthenticated, "after 30 days")
}

// dump returns all rows of the tables as text.
func dump(t *testing.T, db *pg.DB, tables ...string) string {
	t.Helper()
	conn := pgtest.Connect(t, db, pgtest.Super)
	var all strings.Builder
	for _, table := range tables {
		rows, err := conn.Query(t.Context(), "SELECT x::text FROM "+table+" x")
		if err != nil {
			t.Fatal(err)
		}
		texts, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatal(err)
		}
		all.WriteString(strings.Join(texts, "\n"))
	}
	return all.String()
}

func TestFailedLoginsAreThrottledAndAlike(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	mustOrg(t, db, "acme")
	now := time.Now()
	g := newGate(func() time.Time { return now })
	try := func(email, pass, ip string) error {
		_, _, _, err := g.login(t.Context(), db, Credentials{Email: email, Password: pass, IP: ip})
		return err
	}
	wrong, unknown := try("acme@example.com", "wrong password", "192.0.2.9"), try("nobody@example.com", "wrong password", "192.0.2.9")
	if wrong == nil || unknown == nil || wrong.Error() != unknown.Error() || tandem.Message(wrong) != tandem.Message(unknown) {
		t.Errorf("a wrong password says %v, an unknown user %v", wrong, unknown)
	}
	want(t, try("not an address", password, "192.0.2.9"), tandem.Unauthenticated, "a malformed address")
	for i := range 9 {
		want(t, try("acme@example.com", "wrong password", fmt.Sprintf("192.0.2.%d", 10+i)), tandem.Unauthenticated, "a wrong password")
	}
	err := try("acme@example.com", password, "198.51.100.1")
	want(t, err, tandem.Throttled, "the right password after ten failures")
	var te *tandem.Error
	if !errors.As(err, &te) || te.RetryAfter <= 0 || te.RetryAfter > 15*time.Minute {
		t.Errorf("retry after %v", te.RetryAfter)
	}
	now = now.Add(te.RetryAfter - time.Second)
	want(t, try("acme@example.com", password, "198.51.100.1"), tandem.Throttled, "a second too early")
	now = now.Add(time.Second)
	if err := try("ACME@example.com", password, "198.51.100.1"); err != nil {
		t.Errorf("after the wait: %v", err)
	}
	for i := range 10 {
		want(t, try(fmt.Sprintf("u%d@example.com", i), "wrong password", "203.0.113.7"), tandem.Unauthenticated, "one address, many accounts")
	}
	want(t, try("acme@example.com", password, "203.0.113.7"), tandem.Throttled, "an address after ten failures")
	if err := try("acme@example.com", password, "203.0.113.8"); err != nil {
		t.Errorf("another address: %v", err)
	}
}

// Attempts count before their password is looked at, so asking at once gains nothing.
func TestThrottleHoldsForParallelAttempts(t *testing.T) {
	t.Parallel()
	th := newThrottle(time.Now, maxThrottled)
	var mu sync.Mutex
	passed := 0
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			if th.take("account", "address") == nil {
				mu.Lock()
				passed++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if passed != maxFailures {
		t.Errorf("%d attempts passed, want %d", passed, maxFailures)
	}
}

func TestThrottleRemembersABoundedNumber(t *testing.T) {
	t.Parallel()
	th := newThrottle(time.Now, 1000)
	for i := range 50_000 {
		if err := th.take(fmt.Sprint("account ", i)); err != nil {
			t.Fatal(err)
		}
		if i%500 == 0 { // one that is tried again and again stays
			_ = th.take("victim")
		}
	}
	if len(th.keys) > 1000 || th.used.Len() != len(th.keys) {
		t.Errorf("%d keys, %d in order", len(th.keys), th.used.Len())
	}
	want(t, th.take("victim"), tandem.Throttled, "the account under attack")
}

func TestUnknownUsersTakeAsLong(t *testing.T) {
	t.Parallel()
	hash, err := hashPassword(t.Context(), password)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(hash, "$argon2id$v=19$m=19456,t=2,p=1$") || !strings.HasPrefix(nobody(), "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Errorf("hashes %q and %q", hash, nobody())
	}
	for pass, ok := range map[string]bool{password: true, password + " ": false, "": false, strings.Repeat("x", 10_000): false} {
		if got, err := verifyPassword(t.Context(), pass, hash); err != nil || got != ok {
			t.Errorf("%.30q: %v, %v", pass, got, err)
		}
	}
	for _, bad := range []string{"", "x", "$argon2id$v=19$m=99999999,t=2,p=1$AAAA$AAAA", "$argon2id$v=19$m=19456,t=2,p=1$AAAA$", "$argon2i$v=19$m=19456,t=2,p=1$AAAA$AAAA", "$argon2id$v=19$m=19456,t=0,p=1$AAAA$AAAA"} {
		if ok, err := verifyPassword(t.Context(), password, bad); ok || err == nil {
			t.Errorf("hash %q: %v, %v", bad, ok, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	held := make([]func(), 0, hashSlots)
	for range hashSlots {
		release, err := hashSlot(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, release)
	}
	if _, err := hashPassword(ctx, password); !errors.Is(err, context.Canceled) {
		t.Errorf("a third hash does not wait, or not with its context: %v", err)
	}
	for _, release := range held {
		release()
	}
}

func TestKeysAreCutToScopesAndRevoked(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	o, owner, sys := mustOrg(t, db, "acme")
	now := time.Now()
	g := newGate(func() time.Time { return now })
	var plain, all string
	var id tandem.ID
	var ext Member
	must(t, db, sys, func(ctx context.Context, tx pgx.Tx) (err error) {
		if ext, err = AddExternal(ctx, tx, "Bot", "", AIRole); err != nil {
			return err
		}
		if plain, id, err = CreateKey(ctx, tx, "Website", owner.ID, []string{"inbound:write"}); err != nil {
			return err
		}
		all, _, err = CreateKey(ctx, tx, "Bot", ext.ID, nil)
		return err
	})
	if !keyForm.MatchString(plain) || len(plain) != 4+8+1+43 {
		t.Errorf("key %q", plain)
	}
	if strings.Contains(dump(t, db, "api_keys", "doors", "events", "outbox"), plain[13:]) {
		t.Error("the key's secret is stored")
	}
	a, err := g.actorByKey(t.Context(), db, plain)
	if err != nil || a.Org != o.ID || a.Member != owner.ID || a.OnBehalf != owner.ID || !a.May("inbound:write") || a.May("lead:read") || len(a.Grants) != 1 {
		t.Fatalf("%+v, %v", a, err)
	}
	if a, err = g.actorByKey(t.Context(), db, all); err != nil || a.Kind != tandem.External || !a.May("lead:write") || a.May("member:write") {
		t.Errorf("%+v, %v", a, err)
	}
	var used *time.Time
	must(t, db, sys, func(ctx context.Context, tx pgx.Tx) error {
		return tx.QueryRow(ctx, "SELECT last_used_at FROM api_keys WHERE id = $1", id).Scan(&used)
	})
	if used == nil {
		t.Error("the use was not noted")
	}
	for _, bad := range []string{"", "tdm_", plain[:len(plain)-1], plain + "0", "TDM" + plain[3:], plain[:13] + strings.Repeat("0", 43)} {
		_, err := g.actorByKey(t.Context(), db, bad)
		want(t, err, tandem.Unauthenticated, "key "+bad)
	}
	must(t, db, sys, func(ctx context.Context, tx pgx.Tx) error { return RevokeKey(ctx, tx, id) })
	now = now.Add(time.Second)
	_, err = g.actorByKey(t.Context(), db, plain)
	want(t, err, tandem.Unauthenticated, "a second after it was revoked")
	must(t, db, sys, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "UPDATE api_keys SET expires_at = now() - interval '1 second'")
		return err
	})
	_, err = g.actorByKey(t.Context(), db, all)
	want(t, err, tandem.Unauthenticated, "an expired key")
	for name, fn := range map[string]func(ctx context.Context, tx pgx.Tx) error{
		"unknown scope": func(ctx context.Context, tx pgx.Tx) error {
			_, _, err := CreateKey(ctx, tx, "x", owner.ID, []string{"*"})
			return err
		},
		"no name": func(ctx context.Context, tx pgx.Tx) error {
			_, _, err := CreateKey(ctx, tx, " ", owner.ID, nil)
			return err
		},
	} {
		want(t, db.Tx(sys, fn), tandem.Invalid, name)
	}
	want(t, db.Tx(sys, func(ctx context.Context, tx pgx.Tx) error { return RevokeKey(ctx, tx, id) }), tandem.NotFound, "revoking twice")
	var keys []Key
	must(t, db, sys, func(ctx context.Context, tx pgx.Tx) (err error) { keys, err = Keys(ctx, tx); return err })
	if len(keys) != 1 || keys[0].Name != "Bot" {
		t.Errorf("keys %+v", keys)
	}
}

func TestDisabledMembersAreShutOut(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	_, owner, sys := mustOrg(t, db, "acme")
	now := time.Now()
	g := newGate(func() time.Time { return now })
	var kim Member
	var key string
	must(t, db, sys, func(ctx context.Context, tx pgx.Tx) (err error) {
		if kim, err = AddHuman(ctx, tx, NewHuman{Name: "Kim", Email: "kim@example.com", Password: password}); err != nil {
			return err
		}
		key, _, err = CreateKey(ctx, tx, "Kim's", kim.ID, nil)
		return err
	})
	token, actor, _, err := g.login(t.Context(), db, Credentials{Email: "kim@example.com", Password: password})
	if err != nil {
		t.Fatal(err)
	}
	want(t, db.Tx(human(actor, t), func(ctx context.Context, tx pgx.Tx) error { return Disable(ctx, tx, owner.ID) }), tandem.Forbidden, "an agent disables the owner")
	want(t, db.Tx(sys, func(ctx context.Context, tx pgx.Tx) error { return Disable(ctx, tx, owner.ID) }), tandem.Conflict, "the last owner")
	want(t, db.Tx(sys, func(ctx context.Context, tx pgx.Tx) error { return Disable(ctx, tx, tandem.NewID()) }), tandem.NotFound, "an unknown member")
	for range 2 {
		must(t, db, sys, func(ctx context.Context, tx pgx.Tx) error { return Disable(ctx, tx, kim.ID) })
	}
	now = now.Add(time.Second)
	_, _, err = g.actorBySession(t.Context(), db, token)
	want(t, err, tandem.Unauthenticated, "the session")
	_, err = g.actorByKey(t.Context(), db, key)
	want(t, err, tandem.Unauthenticated, "the key")
	_, _, _, err = g.login(t.Context(), db, Credentials{Email: "kim@example.com", Password: password})
	want(t, err, tandem.Unauthenticated, "a new login")
	err = db.Tx(sys, func(ctx context.Context, tx pgx.Tx) error { _, err := MemberActor(ctx, tx, kim.ID); return err })
	want(t, err, tandem.Forbidden, "acting as a disabled member")
	if doors := dump(t, db, "doors"); strings.Contains(doors, "session") || strings.Contains(doors, "api_key") {
		t.Errorf("doors left: %s", doors)
	}
	if n := strings.Count(dump(t, db, "events"), ",disabled,"); n != 1 {
		t.Errorf("%d member.disabled events, want 1", n)
	}
}

func TestAIMembersKeepTheirSecret(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	o, owner, sys := mustOrg(t, db, "acme")
	sealer, err := seal.Open(bytes.Repeat([]byte{7}, seal.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	const canary = "sk-canary-9876543210"
	var ava Member
	var list tandem.Page[Member]
	must(t, db, sys, func(ctx context.Context, tx pgx.Tx) (err error) {
		ava, err = AddAI(ctx, tx, sealer, NewAI{Name: "Ava", APIKey: canary, Profile: AIProfile{Provider: "compatible", BaseURL: "https://llm.example.com", Model: "m1", Persona: "kind", Budget: Budget{ToolCalls: 3}}})
		return err
	})
	if ava.Role != AIRole || ava.Brain == nil || *ava.Brain != (Brain{"compatible", "m1", "auto"}) {
		t.Errorf("%+v", ava)
	}
	if strings.Contains(dump(t, db, "members", "events", "outbox"), canary) {
		t.Error("the API key is stored in plain")
	}
	var profile AIProfile
	var key seal.Secret
	must(t, db, sys, func(ctx context.Context, tx pgx.Tx) (err error) {
		if _, profile, key, err = ModelSettings(ctx, tx, sealer, ava.ID); err != nil {
			return err
		}
		list, err = Members.List(ctx, tx, tandem.Query{Filter: map[string]string{"kind": "ai"}})
		return err
	})
	if key.Reveal() != canary || profile.BaseURL != "https://llm.example.com" || profile.Persona != "kind" || profile.Budget.ToolCalls != 3 || len(list.Items) != 1 {
		t.Errorf("%+v", profile)
	}
	err = db.Tx(sys, func(ctx context.Context, tx pgx.Tx) error {
		_, _, _, err := ModelSettings(ctx, tx, sealer, owner.ID)
		return err
	})
	want(t, err, tandem.NotFound, "model settings of a person")
	// A sealed key moved to another member does not open.
	var eve Member
	must(t, db, sys, func(ctx context.Context, tx pgx.Tx) (err error) {
		if eve, err = AddAI(ctx, tx, sealer, NewAI{Name: "Eve"}); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, "UPDATE members SET secret = (SELECT secret FROM members WHERE id = $1) WHERE id = $2", ava.ID, eve.ID)
		return err
	})
	err = db.Tx(sys, func(ctx context.Context, tx pgx.Tx) error {
		_, _, _, err := ModelSettings(ctx, tx, sealer, eve.ID)
		return err
	})
	want(t, err, tandem.Internal, "a key moved to another row")
	var actor tandem.Actor
	must(t, db, sys, func(ctx context.Context, tx pgx.Tx) (err error) {
		actor, err = MemberActor(ctx, tx, ava.ID)
		return err
	})
	if actor.Org != o.ID || actor.Kind != tandem.AI || actor.May("contact:write") || !actor.May("lead:write") || actor.Chain == "" {
		t.Errorf("%+v", actor)
	}
	for name, fn := range map[string]func(ctx context.Context, tx pgx.Tx) error{
		"add a person": func(ctx context.Context, tx pgx.Tx) error {
			_, err := AddHuman(ctx, tx, NewHuman{Name: "X", Email: "x@example.com", Password: password})
			return err
		},
		"add an AI": func(ctx context.Context, tx pgx.Tx) error {
			_, err := AddAI(ctx, tx, sealer, NewAI{Name: "X"})
			return err
		},
		"add external": func(ctx context.Context, tx pgx.Tx) error {
			_, err := AddExternal(ctx, tx, "X", "", AIRole)
			return err
		},
		"make a key": func(ctx context.Context, tx pgx.Tx) error {
			_, _, err := CreateKey(ctx, tx, "X", ava.ID, nil)
			return err
		},
		"disable":    func(ctx context.Context, tx pgx.Tx) error { return Disable(ctx, tx, owner.ID) },
		"add a team": func(ctx context.Context, tx pgx.Tx) error { _, err := AddTeam(ctx, tx, "X", false, nil); return err },
	} {
		want(t, db.Tx(human(actor, t), fn), tandem.Forbidden, "an AI member may not "+name)
	}
}

func TestMembersOfAnotherOrganizationAreNotFound(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	_, owner, _ := mustOrg(t, db, "acme")
	_, _, other := mustOrg(t, db, "other")
	for name, fn := range map[string]func(ctx context.Context, tx pgx.Tx) error{
		"get":     func(ctx context.Context, tx pgx.Tx) error { _, err := Members.Get(ctx, tx, owner.ID); return err },
		"act as":  func(ctx context.Context, tx pgx.Tx) error { _, err := MemberActor(ctx, tx, owner.ID); return err },
		"disable": func(ctx context.Context, tx pgx.Tx) error { return Disable(ctx, tx, owner.ID) },
		"key": func(ctx context.Context, tx pgx.Tx) error {
			_, _, err := CreateKey(ctx, tx, "x", owner.ID, nil)
			return err
		},
	} {
		want(t, db.Tx(other, fn), tandem.NotFound, name)
	}
	want(t, db.Tx(other, func(ctx context.Context, tx pgx.Tx) error {
		_, err := AddTeam(ctx, tx, "x", false, []tandem.ID{owner.ID})
		return err
	}), tandem.Invalid, "a team with a foreign member")
	want(t, db.Tx(other, func(ctx context.Context, tx pgx.Tx) error { _, err := AddTeam(ctx, tx, "x", true, nil); return err }), tandem.Conflict, "a second fallback team")
	var teams tandem.Page[Team]
	must(t, db, other, func(ctx context.Context, tx pgx.Tx) (err error) {
		teams, err = Teams.List(ctx, tx, tandem.Query{})
		return err
	})
	if len(teams.Items) != 1 {
		t.Errorf("%d teams, want the own one", len(teams.Items))
	}
}

func TestGrantsPerRole(t *testing.T) {
	t.Parallel()
	reading := 0
	for _, p := range Permissions {
		if strings.HasSuffix(p, ":read") {
			reading++
		}
	}
	for role, n := range map[string]int{Owner: len(Permissions), Admin: len(Permissions), Agent: len(Permissions) - 4, Viewer: reading, AIRole: 21, "": 0, "root": 0} {
		if g := Grants(role); len(g) != n {
			t.Errorf("%q has %d permissions, want %d", role, len(g), n)
		}
	}
	Grants(Viewer)["member:write"] = true
	if Grants(Viewer)["member:write"] {
		t.Error("a caller can change a role")
	}
	if g := scoped(Viewer, []string{"lead:read", "lead:write"}); len(g) != 1 || !g["lead:read"] {
		t.Errorf("a key's scopes reach beyond the role: %v", g)
	}
}
