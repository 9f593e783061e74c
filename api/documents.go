package api

import (
	"context"
	"io"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humachi"
	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/crm"
	"github.com/tandemhq/tandem/internal/blob"
)

// versionInput names one version of a document.
type versionInput struct {
	ByID
	N int32 `path:"n" minimum:"1" doc:"The version's number."`
}

// documentRoutes serve what documents have besides the verbs of every record: their content, in and out.
func (s *server) documentRoutes() {
	document := s.schema(reflect.TypeFor[crm.Document]())
	upload := route{method: http.MethodPost, path: "/documents", permission: "document:write", summary: "Upload a file as a new document", status: http.StatusCreated}
	handleAs(s, upload, document, nil, s.uploadDocument)
	s.describeUpload(upload, "name", "category", "lead_id", "contact_id", "account_id", "deal_id", "access")
	again := route{method: http.MethodPost, path: "/documents/{id}/versions", permission: "document:write", summary: "Upload a new version of a document", status: http.StatusCreated}
	handleAs(s, again, document, nil, s.uploadVersion)
	s.describeUpload(again)

	read(s, route{method: http.MethodGet, path: "/documents/{id}/versions", permission: "document:read", summary: "List the versions of a document"},
		func(ctx context.Context, tx pgx.Tx, in *struct {
			ByID
			Paging
		},
		) (tandem.Page[crm.DocumentVersion], error) {
			return onID(in.ByID, func(id tandem.ID) (tandem.Page[crm.DocumentVersion], error) {
				return crm.Documents.Versions(ctx, tx, id, in.query(nil))
			})
		})
	s.download(route{method: http.MethodGet, path: "/documents/{id}/content", permission: "document:read", summary: "Download a document"})
	s.download(route{method: http.MethodGet, path: "/documents/{id}/versions/{n}/content", permission: "document:read", summary: "Download a version of a document"})
}

// download registers a route that answers with a content. Permission and row-level security decide before the file store
// is asked for anything.
func (s *server) download(r route) {
	op := s.operation(r)
	op.Description += " Ranges and `If-None-Match` are understood. A browser saves what it gets and shows none of it."
	binary := map[string]*huma.MediaType{"*/*": {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}}}
	op.Responses = map[string]*huma.Response{
		"200": {Description: "The content.", Content: binary}, "206": {Description: "The parts that were asked for.", Content: binary},
		"304": {Description: "It is what you have."},
	}
	op.Errors = append(op.Errors, http.StatusRequestedRangeNotSatisfiable)
	serve := func(ctx context.Context, in ByID, n int32) (*huma.StreamResponse, error) {
		v, content, err := s.content(ctx, in, n)
		if err != nil {
			p := problemOf(ctx, err)
			logFailure(ctx, s.log, p, err)
			return nil, p
		}
		return &huma.StreamResponse{Body: func(hctx huma.Context) {
			defer content.Close()
			req, w := humachi.Unwrap(hctx)
			s.send(w, req, v, content)
		}}, nil
	}
	if strings.Contains(r.path, "{n}") {
		huma.Register(s.huma, op, func(ctx context.Context, in *versionInput) (*huma.StreamResponse, error) {
			return serve(ctx, in.ByID, in.N)
		})
		return
	}
	huma.Register(s.huma, op, func(ctx context.Context, in *ByID) (*huma.StreamResponse, error) { return serve(ctx, *in, 0) })
}

// content opens the content of a version, the newest when n is 0.
func (s *server) content(ctx context.Context, in ByID, n int32) (v crm.DocumentVersion, content io.ReadSeekCloser, err error) {
	a, err := tandem.ActorFrom(ctx)
	if err != nil {
		return v, nil, err
	}
	err = s.DB.Read(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
		v, err = onID(in, func(id tandem.ID) (crm.DocumentVersion, error) { return crm.Documents.Content(ctx, tx, id, n) })
		return err
	})
	if err != nil {
		return v, nil, err
	}
	key := blob.Key{Org: a.Org, ID: v.Blob}
	if content, err = s.Blobs.Open(ctx, key); err != nil {
		if tandem.KindOf(err) == tandem.NotFound {
			s.log.ErrorContext(ctx, "a file is gone from the file store: restore it from a backup", "org", key.Org, "blob", key.ID, "err", err)
		}
		return v, nil, err
	}
	if size, err := content.Seek(0, io.SeekEnd); err != nil || size != v.Size {
		content.Close()
		return v, nil, tandem.Wrap(tandem.Internal, err, "the content %s has %d bytes, not %d", key.ID, size, v.Size)
	}
	return v, content, nil
}

// send writes a content as something to be saved: whatever is inside, no browser runs it in our name.
func (s *server) send(w http.ResponseWriter, r *http.Request, v crm.DocumentVersion, content io.ReadSeeker) {
	h := w.Header()
	ctype := v.ContentType
	if crm.IsActive(ctype) {
		ctype = "application/octet-stream"
	}
	h.Set("Content-Type", ctype)
	h.Set("Content-Disposition", attachment(v.FileName))
	h.Set("Content-Security-Policy", "sandbox; default-src 'none'; frame-ancestors 'none'")
	h.Set("Cache-Control", "private, no-cache")
	h.Set("ETag", `"`+v.SHA256+`"`)
	out := &patient{ResponseWriter: w, control: http.NewResponseController(w), refuse: func(w http.ResponseWriter) {
		p := newProblem(http.StatusRequestedRangeNotSatisfiable, "range", "The document has "+strconv.FormatInt(v.Size, 10)+" bytes; ask for a range within.")
		writeProblem(w, r, s.log, p)
	}}
	defer func() { _ = out.control.SetWriteDeadline(time.Time{}) }() // the connection may serve other requests
	http.ServeContent(out, r, "", time.Time{}, content)
}

const writeTime = 30 * time.Second // for a reader to take what fits into the connection

// patient waits for a slow reader, and not for one that stands still. A range that cannot be answered it answers as our
// problems look.
type patient struct {
	http.ResponseWriter
	control *http.ResponseController
	refuse  func(http.ResponseWriter)
	refused bool
}

func (p *patient) WriteHeader(status int) {
	if p.refused = status == http.StatusRequestedRangeNotSatisfiable; p.refused {
		p.Header().Del("Content-Disposition")
		p.refuse(p.ResponseWriter)
		return
	}
	p.ResponseWriter.WriteHeader(status)
}

func (p *patient) Write(b []byte) (int, error) {
	if p.refused {
		return len(b), nil
	}
	_ = p.control.SetWriteDeadline(time.Now().Add(writeTime))
	return p.ResponseWriter.Write(b)
}

// attachment is the Content-Disposition of a file to be saved (RFC 6266): the name in plain letters for those who know
// nothing else, and as it is (RFC 8187).
func attachment(name string) string {
	var plain, full strings.Builder
	for _, r := range name {
		if r >= ' ' && r <= '~' && !strings.ContainsRune(`"\%`, r) {
			plain.WriteRune(r)
		} else {
			plain.WriteByte('_')
		}
	}
	for _, b := range []byte(name) {
		if b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' || strings.IndexByte("!#$&+-.^_`|~", b) >= 0 {
			full.WriteByte(b)
		} else {
			full.WriteString("%" + strings.ToUpper(strconv.FormatInt(int64(b)+0x100, 16)[1:]))
		}
	}
	return `attachment; filename="` + plain.String() + `"; filename*=UTF-8''` + full.String()
}
