package crm

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/blob/loose"
	"github.com/tandemhq/tandem/internal/record"
)

// Document is a file that belongs to one lead, contact, account or deal, with every version of its content. A private one is
// seen by its owner and by owners and admins of the organization.
type Document struct {
	ID             tandem.ID  `json:"id" db:"id"`
	Name           string     `json:"name" db:"name" example:"Offer for two racks"`
	Category       string     `json:"category" db:"category" enum:"contract,proposal,invoice,identity,other"`
	LeadID         *tandem.ID `json:"lead_id" db:"lead_id" doc:"What it belongs to: exactly one of lead_id, contact_id, account_id and deal_id."`
	ContactID      *tandem.ID `json:"contact_id" db:"contact_id"`
	AccountID      *tandem.ID `json:"account_id" db:"account_id"`
	DealID         *tandem.ID `json:"deal_id" db:"deal_id"`
	OwnerID        *tandem.ID `json:"owner_id" db:"owner_id" doc:"The member who uploaded it first."`
	Access         string     `json:"access" db:"access" enum:"team,private" doc:"team: everybody who may read documents. private: its owner, and owners and admins of the organization; only these may change it."`
	CurrentVersion int32      `json:"current_version" db:"current_version" doc:"The number of its newest content."`
	FileName       string     `json:"file_name" db:"file_name" example:"offer.pdf" doc:"What the newest content is called when it is downloaded."`
	ContentType    string     `json:"content_type" db:"content_type" example:"application/pdf"`
	Size           int64      `json:"size" db:"size" doc:"Of the newest content, in bytes."`
	SHA256         string     `json:"sha256" db:"sha256" doc:"Of the newest content; its entity tag."`
	Label          string     `json:"-" db:"label"`
	CreatedAt      time.Time  `json:"created_at" db:"created_at"`
	UpdatedAt      time.Time  `json:"updated_at" db:"updated_at"`
	Version        int64      `json:"version" db:"version"`
}

type documents struct{ record.Set[Document] }

// Documents is the set of documents. Facts name those that everybody may see, and no others.
var Documents = documents{record.Set[Document]{
	Noun: "document", Table: "documents",
	Fields: []record.Field{
		{Name: "name", Filter: true, Write: true, Hidden: true, Sort: "lower(documents.name)"},
		{Name: "category", Filter: true, Write: true},
		{Name: "lead_id", Type: record.ID, Filter: true, Write: true},
		{Name: "contact_id", Type: record.ID, Filter: true, Write: true},
		{Name: "account_id", Type: record.ID, Filter: true, Write: true},
		{Name: "deal_id", Type: record.ID, Filter: true, Write: true},
		{Name: "owner_id", Type: record.ID, Filter: true},
		{Name: "access", Filter: true, Write: true},
		{Name: "current_version", Type: record.Int},
		{Name: "file_name", Filter: true, Hidden: true},
		{Name: "content_type", Filter: true},
		{Name: "size", Type: record.Int, Filter: true},
		{Name: "sha256", Filter: true},
		{Name: "created_at", Type: record.Time, Filter: true},
		{Name: "updated_at", Type: record.Time, Filter: true},
	},
	Search: []string{"documents.name"},
	Scope: ` AND (documents.access = 'team' OR documents.owner_id = @me
		OR (SELECT role FROM members WHERE org_id = @org AND id = @me) IN ('owner', 'admin'))`,
	Archivable: true, Label: "label", Lead: "lead_id", Category: "crm", Check: checkDocument,
}}

// ofContent are the columns that each version sets.
var ofContent = []string{"current_version", "file_name", "content_type", "size", "sha256"}

var documentCategories = []string{"contract", "proposal", "invoice", "identity", "other"}

func checkDocument(d *Document) error {
	d.Category, d.Access = cmp.Or(d.Category, "other"), cmp.Or(d.Access, "team")
	wrong := oneRelated(nil, d.LeadID, d.ContactID, d.AccountID, d.DealID)
	if d.Name = clean(d.Name, maxFileName); d.Name == "" {
		wrong = append(wrong, tandem.FieldError{Field: "name", Message: "A document needs a name."})
	}
	if !slices.Contains(documentCategories, d.Category) {
		wrong = append(wrong, tandem.FieldError{Field: "category", Message: "Choose contract, proposal, invoice, identity or other."})
	}
	if d.Access != "team" && d.Access != "private" {
		wrong = append(wrong, tandem.FieldError{Field: "access", Message: "Choose team or private."})
	}
	if len(wrong) > 0 {
		return tandem.InvalidFields(wrong...)
	}
	return nil
}

// File is a content that was stored, and what it is.
type File struct {
	Blob   tandem.ID // its name in the file store
	Name   string    // as CheckFile returned it, like Type
	Type   string
	Size   int64
	SHA256 string
}

// Expect makes ready for a content that is about to be stored, of a document or of one that is to be made when id is
// empty, and returns the name to store it under. Commit it first: what no document takes within a day is removed.
func (s documents) Expect(ctx context.Context, tx pgx.Tx, id tandem.ID) (d Document, blob tandem.ID, err error) {
	if _, err := s.May(ctx, "write"); err != nil {
		return d, "", err
	}
	if id != "" {
		if d, err = s.Load(ctx, tx, id, false); err != nil {
			return d, "", err
		}
	}
	blob = tandem.NewID()
	return d, blob, loose.Add(ctx, tx, blob)
}

// Add makes a document of the actor with its first version. A content that was swept meanwhile is Unavailable.
func (s documents) Add(ctx context.Context, tx pgx.Tx, d Document, f File) (Document, error) {
	a, err := s.May(ctx, "write")
	if err != nil {
		return d, err
	}
	d.OwnerID, d.CurrentVersion = a.Member.Ptr(), 1
	d.FileName, d.ContentType, d.Size, d.SHA256 = f.Name, f.Type, f.Size, f.SHA256
	d.Name = cmp.Or(clean(d.Name, maxFileName), f.Name)
	made, err := alsoWriting(s.Set, append(ofContent, "owner_id")...).Create(ctx, tx, d)
	if err != nil {
		return made, err
	}
	return made, keepVersion(ctx, tx, made.ID, 1, f)
}

// AddVersion makes a content the newest version of a document.
func (s documents) AddVersion(ctx context.Context, tx pgx.Tx, id tandem.ID, f File) (Document, error) {
	if _, err := s.May(ctx, "write"); err != nil {
		return Document{}, err
	}
	old, err := s.Load(ctx, tx, id, true) // locked: of two at the same time each has a number of its own
	if err != nil {
		return old, err
	}
	n := old.CurrentVersion + 1
	raw, err := json.Marshal(map[string]any{"current_version": n, "file_name": f.Name, "content_type": f.Type, "size": f.Size, "sha256": f.SHA256})
	if err != nil {
		return old, fmt.Errorf("add a version: %w", err)
	}
	d, err := alsoWriting(s.Set, ofContent...).Patch(ctx, tx, id, raw, nil)
	if err != nil {
		return d, err
	}
	return d, keepVersion(ctx, tx, id, n, f)
}

// Patch changes a document as record.Set does. Who sees it is for its owner, and for owners and admins of the
// organization, to say; for others that is Forbidden.
func (s documents) Patch(ctx context.Context, tx pgx.Tx, id tandem.ID, raw json.RawMessage, version *int64) (Document, error) {
	a, err := s.May(ctx, "write")
	if err != nil {
		return Document{}, err
	}
	old, err := s.Load(ctx, tx, id, true)
	if err != nil {
		return old, err
	}
	var asked struct {
		Access string `json:"access"`
	}
	_ = json.Unmarshal(raw, &asked) // what cannot be read, the set refuses
	if asked.Access != "" && asked.Access != old.Access && tandem.Deref(old.OwnerID) != a.Member && a.Role != "owner" && a.Role != "admin" {
		return old, tandem.Errorf(tandem.Forbidden, "Only its owner, or an owner or admin of your organization, may say who sees a document.")
	}
	return s.Set.Patch(ctx, tx, id, raw, version)
}

// DocumentVersion is one content of a document.
type DocumentVersion struct {
	N           int32      `json:"n" db:"n" doc:"1 for the first, and so on."`
	FileName    string     `json:"file_name" db:"file_name" example:"offer.pdf"`
	ContentType string     `json:"content_type" db:"content_type" example:"application/pdf"`
	Size        int64      `json:"size" db:"size" doc:"In bytes."`
	SHA256      string     `json:"sha256" db:"sha256"`
	UploadedBy  *tandem.ID `json:"uploaded_by" db:"uploaded_by" doc:"The member who uploaded it."`
	CreatedAt   time.Time  `json:"created_at" db:"created_at"`
	Blob        tandem.ID  `json:"-" db:"blob_id"`
}

const (
	sqlKeepVersion = `
INSERT INTO document_versions (org_id, document_id, n, blob_id, file_name, content_type, size, sha256, uploaded_by)
VALUES (@org, @id, @n, @blob, @name, @type, @size, @sha256, @me)`

	sqlVersions = `
SELECT n, file_name, content_type, size, sha256, uploaded_by, created_at, blob_id
FROM document_versions WHERE org_id = @org AND document_id = @id`
)

func keepVersion(ctx context.Context, tx pgx.Tx, id tandem.ID, n int32, f File) error {
	a, err := tandem.ActorFrom(ctx)
	if err != nil {
		return err
	}
	if err := loose.Take(ctx, tx, f.Blob); err != nil {
		return err
	}
	_, err = tx.Exec(ctx, sqlKeepVersion, pgx.StrictNamedArgs{
		"org": a.Org, "id": id, "n": n, "blob": f.Blob, "name": f.Name, "type": f.Type, "size": f.Size, "sha256": f.SHA256, "me": a.Member.Ptr(),
	})
	if err != nil {
		return fmt.Errorf("keep a version: %w", err)
	}
	return nil
}

// Versions lists the contents of a document, the newest first.
func (s documents) Versions(ctx context.Context, tx pgx.Tx, id tandem.ID, q tandem.Query) (p tandem.Page[DocumentVersion], err error) {
	if _, err := s.Get(ctx, tx, id); err != nil {
		return p, err
	}
	before := int64(1) << 31
	if q.Cursor != "" {
		part, err := tandem.DecodeCursor(q.Cursor, 1)
		if err != nil {
			return p, err
		}
		if before, err = strconv.ParseInt(part[0], 10, 32); err != nil {
			return p, tandem.InvalidFields(tandem.FieldError{Field: "cursor", Message: "This is not a cursor of this list. Leave it out to start at the beginning."})
		}
	}
	rows, err := versionsOf(ctx, tx, " AND n < @before::bigint ORDER BY n DESC LIMIT "+strconv.Itoa(q.Size()+1), pgx.StrictNamedArgs{"id": id, "before": before})
	if err != nil {
		return p, err
	}
	return tandem.PageOf(rows, q.Size(), func(v DocumentVersion) []string { return []string{strconv.Itoa(int(v.N))} }), nil
}

// Content says where a version of a document is kept, and what it is; the newest when n is 0.
func (s documents) Content(ctx context.Context, tx pgx.Tx, id tandem.ID, n int32) (v DocumentVersion, err error) {
	d, err := s.Get(ctx, tx, id)
	if err != nil {
		return v, err
	}
	if n == 0 {
		n = d.CurrentVersion
	}
	rows, err := versionsOf(ctx, tx, " AND n = @n", pgx.StrictNamedArgs{"id": id, "n": n})
	if err != nil {
		return v, err
	}
	if len(rows) == 0 {
		return v, tandem.Errorf(tandem.NotFound, "The document has no version %d.", n)
	}
	return rows[0], nil
}

func versionsOf(ctx context.Context, tx pgx.Tx, tail string, args pgx.StrictNamedArgs) ([]DocumentVersion, error) {
	a, err := tandem.ActorFrom(ctx)
	if err != nil {
		return nil, err
	}
	args["org"] = a.Org
	rows, _ := tx.Query(ctx, sqlVersions+tail, args) // CollectRows tells its error
	all, err := pgx.CollectRows(rows, pgx.RowToStructByName[DocumentVersion])
	if err != nil {
		return nil, fmt.Errorf("read versions: %w", err)
	}
	return all, nil
}
