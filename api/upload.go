package api

import (
	"bufio"
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humachi"
	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/crm"
	"github.com/tandemhq/tandem/internal/blob"
)

const (
	defaultMaxUpload = 25 << 20
	uploadsAtOnce    = 16
	uploadsOfOrg     = 8        // of them, so that none takes all
	leastSpeed       = 64 << 10 // bytes a second that a sender must keep up
	uploadGrace      = 30 * time.Second
	longestUpload    = time.Hour
	maxFields        = 20
	maxField         = 4 << 10 // bytes
)

// FileInput takes the body of an upload away from huma, which would read it whole.
type FileInput struct {
	FileName string `query:"file_name" maxLength:"1000" doc:"What the file is called, for a raw body. A form names it by itself."`

	req *http.Request
	w   http.ResponseWriter
}

// Resolve implements huma.Resolver.
func (in *FileInput) Resolve(ctx huma.Context) []error {
	in.req, in.w = humachi.Unwrap(ctx)
	return nil
}

type documentUpload struct {
	FileInput
	Name      string `query:"name" maxLength:"1000" doc:"What the document is called; its file's name when left out."`
	Category  string `query:"category" maxLength:"40" doc:"contract, proposal, invoice, identity or other."`
	LeadID    string `query:"lead_id" maxLength:"64" doc:"What it belongs to: exactly one of lead_id, contact_id, account_id and deal_id."`
	ContactID string `query:"contact_id" maxLength:"64"`
	AccountID string `query:"account_id" maxLength:"64"`
	DealID    string `query:"deal_id" maxLength:"64"`
	Access    string `query:"access" maxLength:"40" doc:"team or private."`
}

type versionUpload struct {
	ByID
	FileInput
}

// describeUpload adds to the description of an upload what its body is. It is no part of the operation when it is
// registered, because huma would read the body then.
func (s *server) describeUpload(r route, fields ...string) {
	form := &huma.Schema{Type: huma.TypeObject, Required: []string{"file"}, Properties: map[string]*huma.Schema{
		"file": {Type: huma.TypeString, Format: "binary", Description: "The file. It comes after the other fields."},
	}}
	for _, f := range fields {
		form.Properties[f] = &huma.Schema{Type: huma.TypeString, Description: "As the parameter of this name."}
	}
	s.huma.OpenAPI().Paths[basePath+r.path].Post.RequestBody = &huma.RequestBody{
		Required: true, Description: "A form with one file, or the bytes of the file by themselves.",
		Content: map[string]*huma.MediaType{
			"multipart/form-data": {Schema: form},
			"*/*":                 {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}},
		},
	}
}

func (s *server) uploadDocument(ctx context.Context, in *documentUpload) (*recordOutput, error) {
	fields := map[string]string{"name": in.Name, "category": in.Category, "lead_id": in.LeadID, "contact_id": in.ContactID, "account_id": in.AccountID, "deal_id": in.DealID, "access": in.Access}
	var d crm.Document
	return s.upload(ctx, in.FileInput, "", fields, func(u *incoming) (err error) {
		raw, err := json.Marshal(u.fields)
		if err != nil {
			return err
		}
		if d, err = crm.Documents.New(raw); err != nil {
			return err
		}
		if u.name = cmp.Or(u.name, d.Name); u.name == "" {
			return tandem.InvalidFields(tandem.FieldError{Field: "name", Message: "Say what the file is called, with its ending."})
		}
		d.Name = cmp.Or(d.Name, crm.CleanFileName(u.name))
		return crm.Documents.Check(&d)
	}, func(ctx context.Context, tx pgx.Tx, f crm.File) (any, error) { return crm.Documents.Add(ctx, tx, d, f) })
}

func (s *server) uploadVersion(ctx context.Context, in *versionUpload) (*recordOutput, error) {
	id, err := in.id()
	if err != nil {
		return nil, err
	}
	return s.upload(ctx, in.FileInput, id, map[string]string{}, func(u *incoming) error {
		for name := range u.fields {
			return tandem.InvalidFields(tandem.FieldError{Field: tandem.Clip(name, 40), Message: "This field does not exist, or cannot be set."})
		}
		return nil
	}, func(ctx context.Context, tx pgx.Tx, f crm.File) (any, error) {
		return crm.Documents.AddVersion(ctx, tx, id, f)
	})
}

// asked is what makes two uploads the same request.
type asked struct {
	Document tandem.ID
	Fields   map[string]string
	File     crm.File
}

// upload stores a file and then commits the row that names it, as add does; check looks at what was sent beside the
// file. What is stored and not committed stays loose and is removed after a day.
func (s *server) upload(ctx context.Context, in FileInput, id tandem.ID, fields map[string]string,
	check func(*incoming) error, add func(context.Context, pgx.Tx, crm.File) (any, error),
) (out *recordOutput, err error) {
	defer func() {
		if err != nil { // a sender that is refused hears it at once: kept open, the connection would first be read on
			in.w.Header().Set("Connection", "close")
		}
	}()
	a, err := tandem.ActorFrom(ctx)
	if err != nil {
		return nil, err
	}
	if !s.uploads.take(a.Org) {
		return nil, &tandem.Error{Kind: tandem.Unavailable, Msg: "Too many uploads at once. Try again in a moment.", RetryAfter: 2 * time.Second}
	}
	defer s.uploads.give(a.Org)
	ctx, cancel := context.WithTimeout(ctx, s.uploadTime(in.req.ContentLength))
	defer cancel()
	u, err := s.receive(ctx, in, fields)
	if err != nil {
		return nil, err
	}
	if err := check(u); err != nil {
		return nil, err
	}
	var f crm.File
	err = s.DB.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		d, b, err := crm.Documents.Expect(ctx, tx, id)
		f.Blob, f.Name = b, cmp.Or(u.name, d.FileName)
		return err
	})
	if err != nil {
		return nil, err
	}
	key := blob.Key{Org: a.Org, ID: f.Blob}
	if err := s.store(ctx, u, key, &f); err != nil {
		return nil, err
	}
	same := asked{id, u.fields, f}
	same.File.Blob = "" // each try stores the bytes anew
	added := false
	out, err = s.keep(ctx, same, func(ctx context.Context, tx pgx.Tx) (any, error) {
		added = true
		return add(ctx, tx, f)
	})
	switch tandem.KindOf(err) { // only when it is sure that no row names it
	case tandem.Invalid, tandem.NotFound, tandem.Conflict, tandem.Forbidden:
		added = false
	}
	if !added {
		_ = s.Blobs.Delete(context.WithoutCancel(ctx), key) // it is loose, so the sweeper comes by in any case
	}
	return out, err
}

// store checks the beginning of a file and hands it to the file store.
func (s *server) store(ctx context.Context, u *incoming, key blob.Key, f *crm.File) (err error) {
	body := bufio.NewReaderSize(u.file, crm.FileHead)
	head, err := body.Peek(crm.FileHead)
	if err != nil && !errors.Is(err, io.EOF) {
		return notArrived(err)
	}
	if f.Name, f.Type, err = crm.CheckFile(f.Name, u.claimed, head); err != nil {
		return err
	}
	w, err := s.Blobs.Put(ctx, key, body, s.MaxUpload)
	if err == nil {
		if err = u.end(); err != nil {
			_ = s.Blobs.Delete(context.WithoutCancel(ctx), key)
		}
	}
	if errors.Is(err, blob.ErrTooLarge) {
		return s.tooLarge()
	}
	f.Size, f.SHA256 = w.Size, hex.EncodeToString(w.SHA256[:])
	return notArrived(err)
}

// incoming is a file on its way in.
type incoming struct {
	fields  map[string]string // what was said of it, without what is empty
	name    string            // as its sender calls it, or ""
	claimed string            // the type that its sender claims
	file    io.Reader
	end     func() error // to be called when file is read: whether that was all
}

// receive reads what stands before the file. Nobody waits for a sender that stands still: the connection has a deadline.
func (s *server) receive(ctx context.Context, in FileInput, fields map[string]string) (*incoming, error) {
	if in.req.ContentLength > s.MaxUpload+maxFields*maxField {
		return nil, s.tooLarge()
	}
	if at, ok := ctx.Deadline(); ok {
		_ = http.NewResponseController(in.w).SetReadDeadline(at)
	}
	body := http.MaxBytesReader(in.w, in.req.Body, s.MaxUpload+maxFields*maxField)
	u := &incoming{fields: map[string]string{}, name: in.FileName, claimed: in.req.Header.Get("Content-Type"), file: body, end: func() error { return nil }}
	for name, value := range fields {
		if value != "" {
			u.fields[name] = value
		}
	}
	if media, params, err := mime.ParseMediaType(u.claimed); err == nil && media == "multipart/form-data" {
		return u, s.form(u, multipart.NewReader(body, params["boundary"]))
	}
	return u, nil
}

// form reads the fields of a form up to its file.
func (s *server) form(u *incoming, form *multipart.Reader) error {
	wrong := func(field, message string) error {
		return tandem.InvalidFields(tandem.FieldError{Field: tandem.Clip(field, 40), Message: message})
	}
	for range maxFields {
		part, err := form.NextPart()
		switch {
		case errors.Is(err, io.EOF):
			return wrong("file", "The form has no file.")
		case err != nil:
			return s.notRead(err)
		case part.FormName() == "file":
			u.name, u.claimed, u.file = cmp.Or(part.FileName(), u.name), part.Header.Get("Content-Type"), part
			u.end = func() error {
				if _, err := form.NextPart(); !errors.Is(err, io.EOF) {
					return wrong("file", "A form has one file, and it comes last.")
				}
				return nil
			}
			return nil
		}
		value, err := io.ReadAll(io.LimitReader(part, maxField+1))
		switch {
		case err != nil:
			return s.notRead(err)
		case len(value) > maxField:
			return wrong(part.FormName(), "This is too long.")
		case len(value) > 0:
			u.fields[part.FormName()] = string(value)
		}
	}
	return wrong("file", "A form has at most 20 fields before its file.")
}

func (s *server) notRead(err error) error {
	if large := new(http.MaxBytesError); errors.As(err, &large) {
		return s.tooLarge()
	}
	if err := notArrived(err); tandem.KindOf(err) != tandem.Internal || errors.As(err, new(*Problem)) {
		return err
	}
	return newProblem(http.StatusBadRequest, "malformed", "This is not a form that can be read.")
}

// notArrived says what became of a body that ended early. Other errors stay as they are.
func notArrived(err error) error {
	switch {
	case err == nil, tandem.KindOf(err) != tandem.Internal:
		return err
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return newProblem(http.StatusRequestTimeout, "timeout", "The file did not arrive in time. Nothing was stored.")
	case errors.Is(err, io.ErrUnexpectedEOF):
		return newProblem(http.StatusBadRequest, "malformed", "The file did not arrive whole. Nothing was stored.")
	}
	return err
}

func (s *server) tooLarge() error {
	return newProblem(http.StatusRequestEntityTooLarge, "too_large", "A file may have at most "+strconv.FormatInt(s.MaxUpload>>20, 10)+" MB here.")
}

// uploadTime is how long a body of so many bytes may take; those that do not say have the time of the greatest.
func (s *server) uploadTime(size int64) time.Duration {
	if size < 0 || size > s.MaxUpload {
		size = s.MaxUpload
	}
	return min(s.UploadGrace+time.Duration(size/leastSpeed)*time.Second, longestUpload)
}

// slots bounds what is done at once, altogether and for one organization.
type slots struct {
	mu  sync.Mutex
	all int
	of  map[tandem.ID]int
}

func (s *slots) take(org tandem.ID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all >= uploadsAtOnce || s.of[org] >= uploadsOfOrg {
		return false
	}
	s.all++
	s.of[org]++
	return true
}

func (s *slots) give(org tandem.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all--
	if s.of[org]--; s.of[org] == 0 {
		delete(s.of, org)
	}
}
