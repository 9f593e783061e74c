package web

import (
	"bytes"
	"compress/gzip"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"
)

func built() *site {
	return newSite(fstest.MapFS{
		".gitkeep":                {},
		"index.html":              {Data: []byte("<!doctype html><title>Tandem</title>")},
		"index.html.br":           {Data: []byte("BR")},
		"index.html.gz":           {Data: []byte("GZ")},
		"widget.js":               {Data: []byte("widget()")},
		"assets/index-Ab12.js":    {Data: []byte("app()")},
		"assets/index-Ab12.js.gz": {Data: []byte("GZJS")},
		"assets/_chunk-x.js":      {Data: []byte("chunk()")},
	})
}

func get(t *testing.T, s http.Handler, path string, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, path, nil)
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

func TestSiteAnswers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		path         string
		status       int
		body, caches string
	}{
		{"/", 200, "Tandem</title>", "no-cache"},
		{"/inbox/0190-abc", 200, "Tandem</title>", "no-cache"},
		{"/login", 200, "Tandem</title>", "no-cache"},
		{"/widget.js", 200, "widget()", "no-cache"},
		{"/assets/index-Ab12.js", 200, "app()", forever},
		{"/assets/_chunk-x.js", 200, "chunk()", forever},
		{"/assets/index-Old9.js", 404, "no such file", "no-store"},
		{"/assets", 404, "no such file", "no-store"},
		{"/favicon.ico", 404, "no such file", "no-store"},
		{"/api/v1/nothing", 404, "no such file", "no-store"},
		{"/.gitkeep", 404, "no such file", "no-store"},
		{"/index.html.br", 404, "no such file", "no-store"},
		{"/../../etc/passwd", 200, "Tandem</title>", "no-cache"},
	} {
		w := get(t, built(), c.path)
		if w.Code != c.status || !strings.Contains(w.Body.String(), c.body) {
			t.Errorf("GET %s: got %d %q, want %d with %q", c.path, w.Code, w.Body, c.status, c.body)
		}
		if got := w.Header().Get("Cache-Control"); got != c.caches {
			t.Errorf("GET %s: Cache-Control %q, want %q", c.path, got, c.caches)
		}
	}
}

func TestSiteCompression(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ accept, coding, body string }{
		{"", "", "<!doctype"},
		{"gzip, deflate, br, zstd", "br", "BR"},
		{"gzip", "gzip", "GZ"},
		{"br;q=0, gzip;q=0.5", "gzip", "GZ"},
		{"identity", "", "<!doctype"},
	} {
		w := get(t, built(), "/", "Accept-Encoding", c.accept)
		if got := w.Header().Get("Content-Encoding"); got != c.coding || !strings.HasPrefix(w.Body.String(), c.body) {
			t.Errorf("Accept-Encoding %q: got %q %q, want %q %q", c.accept, got, w.Body, c.coding, c.body)
		}
		if w.Header().Get("Vary") != "Accept-Encoding" {
			t.Errorf("Accept-Encoding %q: Vary is missing", c.accept)
		}
		if ct := w.Header().Get("Content-Type"); ct != "text/html; charset=utf-8" {
			t.Errorf("Accept-Encoding %q: Content-Type %q", c.accept, ct)
		}
	}
}

// What the build left packed alone is served to everybody, and the documentation allows no inline style.
func TestSitePackedOnly(t *testing.T) {
	t.Parallel()
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if _, err := z.Write([]byte("<!doctype html>")); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	s := newSite(fstest.MapFS{"index.html.gz": {Data: packed.Bytes()}, "docs.html.gz": {Data: packed.Bytes()}, "docs.html.br": {Data: []byte("BR")}})
	for _, c := range []struct{ path, accept, coding, body string }{
		{"/", "", "", "<!doctype html>"},
		{"/", "gzip", "gzip", packed.String()},
		{"/docs", "br", "br", "BR"},
		{"/docs", "identity", "", "<!doctype html>"},
	} {
		w := get(t, s, c.path, "Accept-Encoding", c.accept)
		if w.Code != http.StatusOK || w.Body.String() != c.body || w.Header().Get("Content-Encoding") != c.coding {
			t.Errorf("GET %s with %q: %d %q %q", c.path, c.accept, w.Code, w.Header().Get("Content-Encoding"), w.Body)
		}
		if ct := w.Header().Get("Content-Type"); ct != "text/html; charset=utf-8" {
			t.Errorf("GET %s with %q: Content-Type %q", c.path, c.accept, ct)
		}
		if inline := strings.Contains(w.Header().Get("Content-Security-Policy"), "unsafe"); inline != (c.path == "/") {
			t.Errorf("GET %s: policy %q", c.path, w.Header().Get("Content-Security-Policy"))
		}
	}
}

func TestSiteRevalidates(t *testing.T) {
	t.Parallel()
	s := built()
	first := get(t, s, "/")
	again := get(t, s, "/", "If-None-Match", first.Header().Get("Etag"))
	if again.Code != http.StatusNotModified || again.Body.Len() != 0 {
		t.Fatalf("second GET with the same ETag: got %d with %d bytes, want 304", again.Code, again.Body.Len())
	}
	other := get(t, s, "/", "If-None-Match", first.Header().Get("Etag"), "Accept-Encoding", "br")
	if other.Code != http.StatusOK {
		t.Fatalf("another coding with the plain ETag: got %d, want 200", other.Code)
	}
}

func TestSiteHeaders(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/", "/assets/index-Ab12.js", "/assets/missing.js"} {
		h := get(t, built(), path).Header()
		csp := h.Get("Content-Security-Policy")
		for _, want := range []string{"script-src 'self';", "connect-src 'self'", "frame-ancestors 'none'", "default-src 'none'"} {
			if !strings.Contains(csp, want) {
				t.Errorf("GET %s: policy %q lacks %q", path, csp, want)
			}
		}
		if h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Referrer-Policy") == "" {
			t.Errorf("GET %s: nosniff or referrer policy is missing", path)
		}
	}
	if got := get(t, built(), "/widget.js").Header().Get("Cross-Origin-Resource-Policy"); got != "cross-origin" {
		t.Errorf("widget.js: Cross-Origin-Resource-Policy %q, want cross-origin", got)
	}
}

func TestSiteRefusesWrites(t *testing.T) {
	t.Parallel()
	w := httptest.NewRecorder()
	built().ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/", nil))
	if w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") == "" {
		t.Fatalf("POST /: got %d, want 405 with Allow", w.Code)
	}
}

func TestSiteWithoutBuild(t *testing.T) {
	t.Parallel()
	w := get(t, newSite(fstest.MapFS{".gitkeep": {}}), "/")
	if w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), "make web") {
		t.Fatalf("without index.html: got %d %q, want 503 naming make web", w.Code, w.Body)
	}
}

func TestHandlerServesWhatWasBuilt(t *testing.T) {
	t.Parallel()
	switch w := get(t, Handler(), "/"); w.Code {
	case http.StatusOK:
		if !strings.Contains(w.Body.String(), "<div id=\"root\">") {
			t.Fatalf("the embedded index.html is not the app's page: %.200q", w.Body)
		}
	case http.StatusServiceUnavailable: // a checkout without a web build
	default:
		t.Fatalf("GET /: got %d", w.Code)
	}
}

// The app's files take no memory before somebody asks for them: none is read until then.
func TestSiteReadsNothingAhead(t *testing.T) {
	t.Parallel()
	files := &opened{MapFS: fstest.MapFS{"index.html": {Data: []byte("<!doctype html>")}, "assets/index-Ab12.js": {Data: []byte("app()")}}}
	s := newSite(files)
	if n := files.n.Load(); n != 0 {
		t.Errorf("%d files were read before anybody asked", n)
	}
	if w := get(t, s, "/assets/index-Ab12.js"); w.Body.String() != "app()" || w.Header().Get("Content-Length") != "5" {
		t.Errorf("got %q of %s bytes", w.Body, w.Header().Get("Content-Length"))
	}
	if n := files.n.Load(); n != 2 { // for the hash and for the answer
		t.Errorf("one answer read %d files", n)
	}
}

// opened counts the files that were opened, folders left out.
type opened struct {
	fstest.MapFS
	n atomic.Int64
}

func (o *opened) Open(name string) (fs.File, error) {
	f, err := o.MapFS.Open(name)
	if err == nil {
		if info, err := f.Stat(); err == nil && !info.IsDir() {
			o.n.Add(1)
		}
	}
	return f, err
}

func (o *opened) ReadFile(name string) ([]byte, error) {
	o.n.Add(1)
	return o.MapFS.ReadFile(name)
}
