package team

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/events"
	"github.com/tandemhq/tandem/internal/pg"
	"github.com/tandemhq/tandem/internal/record"
	"github.com/tandemhq/tandem/internal/seal"
)

// Member is one who works in an organization: a person, an AI member or an external one.
type Member struct {
	ID        tandem.ID        `json:"id" db:"id"`
	Kind      tandem.ActorKind `json:"kind" db:"kind" enum:"human,ai,external"`
	Name      string           `json:"name" db:"name"`
	Title     string           `json:"title" db:"title"`
	Role      string           `json:"role" db:"role" enum:"owner,admin,agent,viewer,ai"`
	Status    string           `json:"status" db:"status" enum:"active,disabled"`
	Skills    []string         `json:"skills" db:"skills"`
	Brain     *Brain           `json:"ai,omitempty" db:"brain"` // what of AI every member may read
	AI        *AIProfile       `json:"-" db:"ai"`               // AI members only
	Email     string           `json:"-" db:"email"`            // people only: how they sign in
	CreatedAt time.Time        `json:"created_at" db:"created_at"`
	UpdatedAt time.Time        `json:"updated_at" db:"updated_at"`
	Version   int64            `json:"version" db:"version"`
}

// Ref is the member's name as other records show it.
func (m Member) Ref() tandem.MemberRef { return tandem.MemberRef{ID: m.ID, Kind: m.Kind, Name: m.Name} }

// Brain is the part of an AI member's profile that is nobody's secret.
type Brain struct {
	Provider string `json:"provider"`
	Model    string `json:"model"`
	Autonomy string `json:"autonomy"`
}

// AIProfile is which model an AI member thinks with, how it speaks and what it may spend.
type AIProfile struct {
	Provider string `json:"provider"`           // rules, openai, anthropic, google, ollama or compatible
	BaseURL  string `json:"base_url,omitempty"` // for ollama and compatible
	Model    string `json:"model,omitempty"`
	Persona  string `json:"persona,omitempty"` // how it speaks and what it is for, in plain words
	Autonomy string `json:"autonomy"`          // "auto": it answers by itself
	Budget   Budget `json:"budget"`

	// What the model costs, in millionths of the organization's currency unit per million tokens; 0: not known, and
	// Budget.TokensPerDay is what bounds a day.
	InputPrice  int64 `json:"input_price,omitempty"`
	OutputPrice int64 `json:"output_price,omitempty"`
}

// Budget is what an AI member may spend; 0 means the default.
type Budget struct {
	ToolCalls        int   `json:"tool_calls,omitempty"`          // per turn
	Seconds          int   `json:"seconds,omitempty"`             // per turn
	Tokens           int   `json:"tokens,omitempty"`              // per turn
	MessagesInRow    int   `json:"messages_in_row,omitempty"`     // without a word from the contact
	MessagesPerHour  int   `json:"messages_per_hour,omitempty"`   // per conversation
	CostMicrosPerDay int64 `json:"cost_micros_per_day,omitempty"` // millionths of the organization's currency unit
	TokensPerDay     int64 `json:"tokens_per_day,omitempty"`
	MachineRounds    int   `json:"machine_rounds,omitempty"` // with somebody who writes like a machine; negative: no limit
}

type members struct{ record.Set[Member] }

// Members lists and gets members; they are changed by the functions of this package.
var Members = members{record.Set[Member]{
	Noun: "member", Table: "members", Alias: "m",
	Select: `SELECT m.id, m.kind, m.name, m.title, m.role, m.status, m.skills, m.ai, m.created_at, m.updated_at, m.version,
		coalesce(u.email, '') AS email,
		CASE WHEN m.ai IS NOT NULL THEN jsonb_build_object('provider', m.ai->>'provider', 'model', coalesce(m.ai->>'model', ''), 'autonomy', coalesce(m.ai->>'autonomy', '')) END AS brain
	FROM members m LEFT JOIN users u ON u.id = m.user_id`,
	Fields: []record.Field{
		{Name: "kind", Filter: true},
		{Name: "status", Filter: true},
		{Name: "role", Filter: true},
		{Name: "name", Write: true},
		{Name: "title", Write: true},
		{Name: "skills", Write: true},
	},
	Label: "name", Category: "team", Check: checkMember,
}}

// Create is refused: a member comes from AddHuman, AddAI or AddExternal, which know what each kind needs.
func (members) Create(context.Context, pgx.Tx, Member) (Member, error) {
	return Member{}, tandem.Errorf(tandem.Invalid, "Add a person, an AI member or an external member.")
}

func checkMember(m *Member) error {
	wrong := checkText(nil, "name", m.Name, 120)
	if len([]rune(m.Title)) > 120 {
		wrong = append(wrong, tandem.FieldError{Field: "title", Message: "This may have at most 120 characters."})
	}
	if len(m.Skills) > 50 {
		wrong = append(wrong, tandem.FieldError{Field: "skills", Message: "A member may have at most 50 skills."})
	}
	if len(wrong) > 0 {
		return tandem.InvalidFields(wrong...)
	}
	return nil
}

// NewHuman is a person to add, with a login of their own.
type NewHuman struct {
	Name, Email, Password string
	Title                 string
	Role                  string // owner, admin, agent or viewer; empty means agent
	Skills                []string
}

func (h *NewHuman) check() error {
	if h.Role == "" {
		h.Role = Agent
	}
	h.Name = strings.TrimSpace(h.Name)
	wrong := checkText(nil, "name", h.Name, 120)
	email, ok := loginEmail(h.Email)
	if !ok {
		wrong = append(wrong, tandem.FieldError{Field: "email", Message: "This is not an e-mail address."})
	}
	h.Email = email
	if h.Role == AIRole || roles[h.Role] == nil {
		wrong = append(wrong, tandem.FieldError{Field: "role", Message: "Choose owner, admin, agent or viewer."})
	}
	if len(wrong) > 0 {
		return tandem.InvalidFields(wrong...)
	}
	return checkPassword("password", h.Password)
}

// AddHuman adds a person with a login. An e-mail address that already has an account is
// Conflict. It hashes the password inside tx, which takes about 60 ms.
func AddHuman(ctx context.Context, tx pgx.Tx, in NewHuman) (Member, error) {
	if _, err := Members.May(ctx, "write"); err != nil {
		return Member{}, err
	}
	if err := in.check(); err != nil {
		return Member{}, err
	}
	hash, err := hashPassword(ctx, in.Password)
	if err != nil {
		return Member{}, err
	}
	return addHuman(ctx, tx, in, hash)
}

func addHuman(ctx context.Context, tx pgx.Tx, in NewHuman, hash string) (Member, error) {
	user := tandem.NewID()
	tag, err := tx.Exec(ctx, sqlNewUser, pgx.StrictNamedArgs{"id": user, "email": in.Email, "name": in.Name, "hash": hash})
	if err != nil {
		return Member{}, fmt.Errorf("add user: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return Member{}, tandem.Errorf(tandem.Conflict, "The e-mail address %s already has an account.", in.Email)
	}
	m, err := addMember(ctx, tx, newMember{kind: tandem.Human, user: user.Ptr(), name: in.Name, title: in.Title, role: in.Role, skills: in.Skills})
	if err != nil {
		return m, err
	}
	a, err := tandem.ActorFrom(ctx)
	if err != nil {
		return m, err
	}
	if _, err := tx.Exec(ctx, sqlUserDoor, pgx.StrictNamedArgs{"user": user, "org": a.Org, "member": m.ID}); err != nil {
		return m, fmt.Errorf("add user's door: %w", err)
	}
	return m, nil
}

// NewAI is an AI member that runs inside Tandem.
type NewAI struct {
	Name, Title string
	Profile     AIProfile
	APIKey      seal.Secret // of the model's provider; stored sealed, never shown again
	Skills      []string
}

var providers = []string{"rules", "openai", "anthropic", "google", "ollama", "compatible"}

// AddAI adds an AI member with the role "ai". An empty provider is the built-in rules model.
func AddAI(ctx context.Context, tx pgx.Tx, sealer *seal.Sealer, in NewAI) (Member, error) {
	a, err := Members.May(ctx, "write")
	if err != nil {
		return Member{}, err
	}
	if in.Profile.Provider == "" {
		in.Profile.Provider = "rules"
	}
	if in.Profile.Autonomy == "" {
		in.Profile.Autonomy = "auto"
	}
	in.Name = strings.TrimSpace(in.Name)
	wrong := checkText(nil, "name", in.Name, 120)
	if !slices.Contains(providers, in.Profile.Provider) {
		wrong = append(wrong, tandem.FieldError{Field: "provider", Message: "Choose one of " + strings.Join(providers, ", ") + "."})
	}
	if in.Profile.Autonomy != "auto" {
		wrong = append(wrong, tandem.FieldError{Field: "autonomy", Message: "The only autonomy so far is auto."})
	}
	if len(wrong) > 0 {
		return Member{}, tandem.InvalidFields(wrong...)
	}
	n := newMember{id: tandem.NewID(), kind: tandem.AI, name: in.Name, title: in.Title, role: AIRole, skills: in.Skills, ai: &in.Profile}
	if in.APIKey != "" {
		n.secret = sealer.Seal(a.Org, "members", "secret", n.id, []byte(in.APIKey.Reveal()))
	}
	return addMember(ctx, tx, n)
}

// AddExternal adds a member that joins over the API with keys of its own, made by CreateKey.
func AddExternal(ctx context.Context, tx pgx.Tx, name, title, role string) (Member, error) {
	if _, err := Members.May(ctx, "write"); err != nil {
		return Member{}, err
	}
	name = strings.TrimSpace(name)
	wrong := checkText(nil, "name", name, 120)
	if role == Owner || roles[role] == nil {
		wrong = append(wrong, tandem.FieldError{Field: "role", Message: "Choose admin, agent, viewer or ai."})
	}
	if len(wrong) > 0 {
		return Member{}, tandem.InvalidFields(wrong...)
	}
	return addMember(ctx, tx, newMember{kind: tandem.External, name: name, title: title, role: role})
}

type newMember struct {
	id     tandem.ID
	kind   tandem.ActorKind
	user   *tandem.ID
	name   string
	title  string
	role   string
	skills []string
	ai     *AIProfile
	secret []byte
}

const sqlAddMember = `
INSERT INTO members (org_id, id, kind, user_id, name, title, role, skills, ai, secret)
VALUES (@org, @id, @kind, @user, @name, @title, @role, @skills, @ai, @secret)`

func addMember(ctx context.Context, tx pgx.Tx, n newMember) (Member, error) {
	a, err := tandem.ActorFrom(ctx)
	if err != nil {
		return Member{}, err
	}
	if n.id == "" {
		n.id = tandem.NewID()
	}
	if n.skills == nil {
		n.skills = []string{}
	}
	if err := checkMember(&Member{Name: n.name, Title: n.title, Skills: n.skills}); err != nil {
		return Member{}, err
	}
	if _, err := tx.Exec(ctx, sqlAddMember, pgx.StrictNamedArgs{
		"org": a.Org, "id": n.id, "kind": string(n.kind), "user": n.user, "name": n.name, "title": n.title,
		"role": n.role, "skills": n.skills, "ai": n.ai, "secret": n.secret,
	}); err != nil {
		return Member{}, fmt.Errorf("add member: %w", err)
	}
	if _, err := events.Emit(ctx, tx, tandem.Event{
		Noun: "member", Verb: "created", Record: n.id, Category: "team", Severity: "notice",
		Changes:     []tandem.Change{{Field: "name", New: n.name}, {Field: "kind", New: n.kind}, {Field: "role", New: n.role}},
		Description: a.Name + " added " + n.name + " to the team",
	}); err != nil {
		return Member{}, fmt.Errorf("add member: %w", err)
	}
	return Members.Load(ctx, tx, n.id, false)
}

const sqlModelSettings = `SELECT name, role, status, ai, secret FROM members WHERE org_id = @org AND id = @id AND kind = 'ai'`

// ModelSettings returns an active AI member as the actor of its turns, on ctx's causal chain, its profile, and its model's
// API key in plain text, for the code that is about to call the model. Nothing else may ask for it. A member that is not
// an AI member is NotFound, a disabled one Forbidden.
func ModelSettings(ctx context.Context, tx pgx.Tx, sealer *seal.Sealer, member tandem.ID) (actor tandem.Actor, p AIProfile, key seal.Secret, err error) {
	a, err := tandem.ActorFrom(ctx)
	if err != nil {
		return actor, p, "", err
	}
	actor = tandem.Actor{Org: a.Org, Member: member, Kind: tandem.AI, Chain: tandem.ChainFrom(ctx)}
	var status string
	var sealed []byte
	err = tx.QueryRow(ctx, sqlModelSettings, pgx.StrictNamedArgs{"org": a.Org, "id": member}).Scan(&actor.Name, &actor.Role, &status, &p, &sealed)
	switch {
	case pg.NoRows(err):
		return actor, p, "", tandem.Errorf(tandem.NotFound, "There is no such AI member.")
	case err != nil:
		return actor, p, "", fmt.Errorf("get model settings: %w", err)
	case status != "active":
		return actor, p, "", tandem.Errorf(tandem.Forbidden, "%s is disabled.", actor.Name)
	}
	actor.Grants = Grants(actor.Role)
	if sealed == nil {
		return actor, p, "", nil
	}
	plain, err := sealer.Unseal(a.Org, "members", "secret", member, sealed)
	if err != nil {
		return actor, p, "", fmt.Errorf("get model settings: %w", err)
	}
	return actor, p, seal.Secret(plain), nil
}

// MemberActor returns the actor of an active member of ctx's organization, on ctx's causal
// chain: how an AI member's turn acts with its own permissions and nobody else's.
func MemberActor(ctx context.Context, tx pgx.Tx, id tandem.ID) (tandem.Actor, error) {
	a, err := tandem.ActorFrom(ctx)
	if err != nil {
		return tandem.Actor{}, err
	}
	m, err := Members.Load(ctx, tx, id, false)
	if err != nil {
		return tandem.Actor{}, err
	}
	if m.Status != "active" {
		return tandem.Actor{}, tandem.Errorf(tandem.Forbidden, "%s is disabled.", m.Name)
	}
	return tandem.Actor{Org: a.Org, Member: m.ID, Kind: m.Kind, Name: m.Name, Role: m.Role, Grants: Grants(m.Role), Chain: tandem.ChainFrom(ctx)}, nil
}

const (
	sqlOwners  = `SELECT id FROM members WHERE org_id = @org AND role = 'owner' AND status = 'active' ORDER BY id FOR UPDATE`
	sqlDisable = `
UPDATE members SET status = 'disabled', updated_at = now(), version = version + 1
WHERE org_id = @org AND id = @id AND status = 'active'`
	sqlRevokeAll = `
WITH s AS (UPDATE sessions SET revoked_at = now() WHERE org_id = @org AND member_id = @id AND revoked_at IS NULL RETURNING id),
     k AS (UPDATE api_keys SET revoked_at = now() WHERE org_id = @org AND member_id = @id AND revoked_at IS NULL RETURNING id)
DELETE FROM doors d USING (SELECT 'session' AS kind, id FROM s UNION ALL SELECT 'api_key', id FROM k) gone
WHERE d.org_id = @org AND d.kind = gone.kind AND d.record_id = gone.id`
)

// Disable bars a member: its sessions and API keys are revoked in the same transaction and
// stop working within a second. Disabling twice is no error; the last owner cannot be
// disabled (Conflict). What the member holds is released by the inbox, which the caller asks.
func Disable(ctx context.Context, tx pgx.Tx, member tandem.ID) error {
	a, err := Members.May(ctx, "write")
	if err != nil {
		return err
	}
	args := pgx.StrictNamedArgs{"org": a.Org, "id": member}
	rows, err := tx.Query(ctx, sqlOwners, pgx.StrictNamedArgs{"org": a.Org})
	if err != nil {
		return fmt.Errorf("disable member: %w", err)
	}
	owners, err := pgx.CollectRows(rows, pgx.RowTo[tandem.ID])
	if err != nil {
		return fmt.Errorf("disable member: %w", err)
	}
	m, err := Members.Load(ctx, tx, member, true)
	if err != nil {
		return err
	}
	if len(owners) == 1 && owners[0] == member {
		return tandem.Errorf(tandem.Conflict, "%s is the only owner. Make somebody else an owner first.", m.Name)
	}
	tag, err := tx.Exec(ctx, sqlDisable, args)
	if err != nil {
		return fmt.Errorf("disable member: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return nil
	}
	if _, err := tx.Exec(ctx, sqlRevokeAll, args); err != nil {
		return fmt.Errorf("revoke access: %w", err)
	}
	_, err = events.Emit(ctx, tx, tandem.Event{
		Noun: "member", Verb: "disabled", Record: member, Category: "security", Severity: "warning",
		Changes:     []tandem.Change{{Field: "status", Old: "active", New: "disabled"}},
		Description: a.Name + " disabled " + m.Name,
	})
	if err != nil {
		return fmt.Errorf("disable member: %w", err)
	}
	return nil
}
