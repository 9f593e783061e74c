package web

import (
	"compress/gzip"
	"crypto/sha256"
	"encoding/base64"
	"io"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strconv"
	"strings"
	"sync"
)

// policy lets the page run only scripts that are files of ours and talk only to us.
// Inline styles stay allowed because the component library sets some.
const policy = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; font-src 'self'; " +
	"img-src 'self' data: blob:; connect-src 'self'; manifest-src 'self'; " +
	"base-uri 'none'; form-action 'self'; frame-ancestors 'none'"

// docsPolicy is policy for the API's documentation, whose viewer needs no inline style either.
var docsPolicy = strings.Replace(policy, "style-src 'self' 'unsafe-inline'", "style-src 'self'", 1)

const (
	forever    = "public, max-age=31536000, immutable"
	revalidate = "no-cache"
)

const notBuilt = "The web app is not part of this build. Run `make web` and build again.\n"

// asset is one file in the forms that the build left of it. Their bytes stay where the compiler put them, so that the app
// takes no memory until somebody asks for it.
type asset struct {
	dist          fs.FS
	plain, br, gz string // names; empty: there is no such form. One of plain and gz is always there
	ctype         string
	etag          func() string // of the content
}

// site serves the files of one dist folder.
type site struct {
	assets map[string]*asset // by path without the leading slash
}

// newSite looks at the names of dist's files. It never fails: a folder without
// index.html is a site that answers 503.
func newSite(dist fs.FS) *site {
	s := &site{assets: map[string]*asset{}}
	files := map[string]bool{}
	_ = fs.WalkDir(dist, ".", func(p string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && path.Base(p)[0] != '.' {
			files[p] = true
		}
		return nil
	})
	form := func(p string) string {
		if !files[p] {
			return ""
		}
		return p
	}
	for file := range files {
		p := strings.TrimSuffix(strings.TrimSuffix(file, ".br"), ".gz")
		a := &asset{dist: dist, plain: form(p), br: form(p + ".br"), gz: form(p + ".gz"), ctype: contentType(p)}
		kept := a.plain
		if kept == "" {
			kept = a.gz
		}
		if kept != "" {
			a.etag = sync.OnceValue(func() string { return hashOf(dist, kept) })
			s.assets[p] = a
		}
	}
	return s
}

func hashOf(dist fs.FS, name string) string {
	h := sha256.New()
	if f, err := dist.Open(name); err == nil { // it is part of the program
		_, _ = io.Copy(h, f)
		_ = f.Close()
	}
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:12])
}

// contentType does not ask the operating system's tables first, because a machine
// without them would serve modules as text/plain and browsers would refuse them.
func contentType(p string) string {
	switch path.Ext(p) {
	case ".js", ".mjs":
		return "text/javascript; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".html":
		return "text/html; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	case ".woff2":
		return "font/woff2"
	case ".json", ".map":
		return "application/json"
	case ".webmanifest":
		return "application/manifest+json"
	}
	if t := mime.TypeByExtension(path.Ext(p)); t != "" {
		return t
	}
	return "application/octet-stream"
}

// ServeHTTP answers GET and HEAD.
func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "strict-origin-when-cross-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		h.Set("Allow", "GET, HEAD")
		http.Error(w, "Only GET and HEAD are served here.", http.StatusMethodNotAllowed)
		return
	}
	if s.assets["index.html"] == nil {
		h.Set("Cache-Control", "no-store")
		http.Error(w, strings.TrimSuffix(notBuilt, "\n"), http.StatusServiceUnavailable)
		return
	}
	name, a := s.find(r.URL.Path)
	if a == nil {
		h.Set("Cache-Control", "no-store")
		http.Error(w, "There is no such file.", http.StatusNotFound)
		return
	}
	h.Set("Cache-Control", cachePolicy(name))
	if name == "docs.html" {
		h.Set("Content-Security-Policy", docsPolicy)
	}
	if name == "widget.js" {
		h.Set("Cross-Origin-Resource-Policy", "cross-origin") // shops load it from their own pages
	}
	a.write(w, r)
}

// find returns the file that a path names: the file itself, or index.html when the
// path is one of the app's own addresses (no file extension, not under assets or api).
func (s *site) find(urlPath string) (string, *asset) {
	name := strings.TrimPrefix(path.Clean("/"+urlPath), "/")
	if name == "docs" {
		name = "docs.html"
	}
	if a := s.assets[name]; a != nil {
		return name, a
	}
	if path.Ext(name) != "" || under(name, "assets") || under(name, "api") {
		return name, nil
	}
	return "index.html", s.assets["index.html"]
}

func under(name, folder string) bool {
	return name == folder || strings.HasPrefix(name, folder+"/")
}

func cachePolicy(name string) string {
	if under(name, "assets") {
		return forever // the name carries a hash of the content
	}
	return revalidate
}

// write sends the smallest form that the client takes.
func (a *asset) write(w http.ResponseWriter, r *http.Request) {
	name, coding, unpack := a.plain, "", false
	accepts := r.Header.Get("Accept-Encoding")
	switch {
	case a.br != "" && accepted(accepts, "br"):
		name, coding = a.br, "br"
	case a.gz != "" && accepted(accepts, "gzip"):
		name, coding = a.gz, "gzip"
	case a.plain == "":
		name, unpack = a.gz, true
	}
	h := w.Header()
	etag := `"` + a.etag() + coding + `"` // each coding is its own representation
	h.Set("Etag", etag)
	if a.br != "" || a.gz != "" {
		h.Add("Vary", "Accept-Encoding")
	}
	if match := r.Header.Get("If-None-Match"); match != "" && strings.Contains(match, etag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	f, err := a.dist.Open(name)
	if err != nil {
		http.Error(w, "This file cannot be read.", http.StatusInternalServerError)
		return
	}
	defer f.Close()
	h.Set("Content-Type", a.ctype)
	var body io.Reader = f
	if unpack {
		if body, err = gzip.NewReader(f); err != nil {
			http.Error(w, "This file cannot be read.", http.StatusInternalServerError)
			return
		}
	} else if info, err := f.Stat(); err == nil {
		h.Set("Content-Length", strconv.FormatInt(info.Size(), 10))
	}
	if coding != "" {
		h.Set("Content-Encoding", coding)
	}
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodHead {
		return
	}
	_, _ = io.Copy(w, body) // a client that left early is no failure of ours
}

// accepted reports whether an Accept-Encoding header names the coding with a weight above zero.
func accepted(header, coding string) bool {
	for part := range strings.SplitSeq(header, ",") {
		name, params, _ := strings.Cut(strings.TrimSpace(part), ";")
		if !strings.EqualFold(strings.TrimSpace(name), coding) {
			continue
		}
		q, ok := strings.CutPrefix(strings.TrimSpace(params), "q=")
		weight, err := strconv.ParseFloat(q, 64)
		return !ok || (err == nil && weight > 0)
	}
	return false
}
