package api_test

import (
	"archive/zip"
	"bytes"
	"io"
	"io/fs"
	"mime"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/tandemhq/tandem/internal/hub"
	"github.com/tandemhq/tandem/internal/proof"
	"github.com/tandemhq/tandem/internal/tandemtest"
)

// pdf is as short as one can be and still look like one.
const pdf = "%PDF-1.7 offer\n%"

var (
	plain      = []string{"Content-Type", "text/plain"}
	formHeader = []string{"Content-Type", "multipart/form-data; boundary=" + border}
)

const border = "this-is-no-file"

// form is a form of fields and files, as a browser sends it: name, value, name, value; a file is named file=its name.
func form(parts ...string) string {
	var b strings.Builder
	for i := 0; i < len(parts); i += 2 {
		b.WriteString("--" + border + "\r\nContent-Disposition: form-data; ")
		if name, file, ok := strings.Cut(parts[i], "="); ok {
			b.WriteString(`name="` + name + `"; filename="` + file + `"`)
		} else {
			b.WriteString(`name="` + parts[i] + `"`)
		}
		b.WriteString("\r\n\r\n" + parts[i+1] + "\r\n")
	}
	return b.String() + "--" + border + "--\r\n"
}

// SEC-8: names that want to lead somewhere, contents that are not what they say, archives that want to be opened. What is
// kept is under a random name inside the store's directory; what is given back is something to save, never to run.
func TestHostileFiles(t *testing.T) {
	t.Parallel()
	h := tandemtest.Start(t, nil)
	o, stranger := h.NewOrg("files"), h.NewOrg("stranger")
	account := anAccount(t, h, o)
	const mark = "the bytes of a hostile file"
	upload := func(query, body string, header ...string) tandemtest.Answer {
		return h.Do(http.MethodPost, "/api/v1/documents?account_id="+account+query, o.Key, body, header...)
	}
	r := proof.Rand(t)
	names := []string{"../../../../../../../../var/escaped", "/etc/passwd", `..\..\windows\win.ini`, "C:\\boot.ini", "\\\\host\\share", "a/../../b", "x\x00.txt", "\x00", "..", ".", "", " ", "con.txt", "a\r\nX-Evil: 1.txt", `a"; filename="b.txt`, "\u202efdp.txt", "file://etc/passwd", "%2e%2e%2fescaped", "....//....//x", strings.Repeat("a", 900) + ".txt", strings.Repeat("ü", 400), "~/.ssh/authorized_keys", "x.txt:stream", "${HOME}", "`id`.txt", "-rf"}
	parts := []string{"..", "/", `\`, "%2f", "%00", "\x00", ".", "\u202e", "\r\n", `"`, ";", "etc", "passwd", "ä", "C:", " ", "::$DATA", "*", "\u2215", "\ufeff", "blobs", ".part", string(o.ID)}
	for len(names) < proof.Size(60, 200) {
		var b strings.Builder
		for range 1 + r.IntN(8) {
			b.WriteString(parts[r.IntN(len(parts))])
		}
		names = append(names, b.String())
	}
	blobs := filepath.Join(h.Config.Data, "blobs")
	for i, name := range names {
		query, body, header := "&name=n&file_name="+url.QueryEscape(name), mark, plain
		if i%2 == 1 { // as a browser sends it, which leaves everything but quotes and line ends as it is
			query, header = "&name=n", formHeader
			body = form("file="+strings.NewReplacer(`"`, "%22", "\r", "%0D", "\n", "%0A").Replace(name), mark)
		}
		a := upload(query, body, header...)
		if a.Status == http.StatusUnprocessableEntity || a.Status == http.StatusBadRequest {
			continue // refused is as good
		}
		if a.Status != http.StatusCreated {
			t.Errorf("%q: %d %s", name, a.Status, a.Body)
			continue
		}
		var d struct {
			ID       string
			FileName string `json:"file_name"`
		}
		a.Into(t, &d)
		if d.FileName == "" || strings.ContainsAny(d.FileName, "/\\\x00\r\n\"") || d.FileName == "." || d.FileName == ".." {
			t.Errorf("%q is kept as %q", name, d.FileName)
		}
		c := h.Want(http.StatusOK, http.MethodGet, "/api/v1/documents/"+d.ID+"/content", o.Key, nil)
		kind, params, err := mime.ParseMediaType(c.Header.Get("Content-Disposition"))
		if err != nil || kind != "attachment" || params["filename"] != d.FileName || string(c.Body) != mark {
			t.Errorf("%q is given back as %q: %v", name, c.Header.Get("Content-Disposition"), err)
		}
		if c.Header.Get("X-Evil") != "" {
			t.Errorf("%q sets a header", name)
		}
	}
	ours, escaped := regexp.MustCompile(`^[0-9a-f-]{36}/[0-9a-f-]{36}$`), 0
	err := filepath.WalkDir(filepath.Dir(h.Config.Data), func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return nil // the bus removes files of its own meanwhile
		}
		if in, err := filepath.Rel(blobs, path); err == nil && ours.MatchString(in) {
			return nil
		}
		if b, err := os.ReadFile(path); err == nil && strings.Contains(string(b), mark) {
			escaped++
			t.Errorf("the bytes are in %s", path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	proof.Figure(t, "SEC-8", "%d names that want to lead elsewhere: %d escapes", len(names), escaped)

	bomb := zipBomb(t)
	checks := 0
	for _, c := range []struct {
		name, claimed, body string
		kept                string // the type it is kept as; empty: refused
	}{
		{"a.png", "", "<!doctype html><script>alert(1)</script>", ""},
		{"a.png", "image/png", "\x89PNG\r\n\x1a\n....", "image/png"},
		{"a.png", "image/png", "GIF89a....", ""},
		{"a.txt", "image/png", "words", ""},
		{"a.pdf", "application/pdf", "PK\x03\x04....", ""},
		{"a.docx", "", "%PDF-1.7", ""},
		{"a.docx", "", "PK\x03\x04....", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"},
		{"a.xls", "application/vnd.ms-excel", "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1....", "application/vnd.ms-excel"},
		{"a.csv", "application/vnd.ms-excel", "a,b\n", "text/csv"},
		{"a.csv", "", "a\x00\x01\x02\x03", ""},
		{"a.txt", "", "#!/bin/sh\nrm -rf /", ""},
		{"a.txt", "", "MZ\x90\x00\x03\x00", ""},
		{"a.txt", "", "MZ is a fine beginning", "text/plain"},
		{"a", "", "\x7fELF\x02\x01\x01", ""},
		{"a.exe", "", "words", ""},
		{"a.ps1", "", "words", ""},
		{"a.JS", "", "words", ""},
		{"a.xlsm", "", "PK\x03\x04....", ""},
		{"a.pdf.exe", "", "%PDF-1.7", ""},
		{"a.sh.", "", "words", ""},
		{"a.txt", "", "", ""},
		{"a.html", "", "<!doctype html><script>alert(1)</script>", "text/html"},
		{"a.svg", "", `<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>`, "image/svg+xml"},
		{"a.unknown", "", "\x00\x01\x02", "application/octet-stream"},
		{"a.zip", "application/zip", bomb, "application/zip"},
		{"a.xlsx", "", bomb, "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"},
	} {
		checks++
		claimed := c.claimed
		if claimed == "" {
			claimed = "application/octet-stream"
		}
		a := upload("&name="+url.QueryEscape(c.name), c.body, "Content-Type", claimed)
		if c.kept == "" {
			if a.Status != http.StatusUnprocessableEntity || !strings.Contains(string(a.Body), `"field":"file"`) {
				t.Errorf("%s as %q beginning with %.10q: %d %s", c.name, c.claimed, c.body, a.Status, a.Body)
			}
			continue
		}
		var d struct {
			ID, SHA256  string
			ContentType string `json:"content_type"`
		}
		if a.Status == http.StatusCreated {
			a.Into(t, &d)
		}
		if d.ContentType != c.kept {
			t.Errorf("%s as %q beginning with %.10q: %d %s", c.name, c.claimed, c.body, a.Status, a.Body)
			continue
		}
		path := "/api/v1/documents/" + d.ID + "/content"
		got := h.Want(http.StatusOK, http.MethodGet, path, o.Key, nil)
		served := c.kept
		if served == "text/html" || served == "image/svg+xml" {
			served = "application/octet-stream"
		}
		if string(got.Body) != c.body || got.Header.Get("Content-Type") != served || got.Header.Get("X-Content-Type-Options") != "nosniff" ||
			!strings.HasPrefix(got.Header.Get("Content-Disposition"), "attachment;") || !strings.HasPrefix(got.Header.Get("Content-Security-Policy"), "sandbox; default-src 'none'") ||
			got.Header.Get("ETag") != `"`+d.SHA256+`"` {
			t.Errorf("%s is given back with %v", c.name, got.Header)
		}
		h.Want(http.StatusNotModified, http.MethodGet, path, o.Key, nil, "If-None-Match", got.Header.Get("ETag"))
		for _, p := range []string{"", "/content", "/versions", "/versions/1/content"} {
			h.Want(http.StatusNotFound, http.MethodGet, "/api/v1/documents/"+d.ID+p, stranger.Key, nil)
		}
	}
	proof.Figure(t, "SEC-8", "%d files that are or are not what they say, all judged right; archives of %d KB that hold 64 MB stay closed; everything is served to be saved, with nosniff and a sandbox", checks, len(bomb)>>10)
}

// zipBomb is a small archive of 64 MB.
func zipBomb(t *testing.T) string {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	f, err := z.Create("zeros")
	if err != nil {
		t.Fatal(err)
	}
	for range 64 {
		if _, err := f.Write(make([]byte, 1<<20)); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func anAccount(t *testing.T, h *tandemtest.Hub, o tandemtest.Org) string {
	t.Helper()
	var made struct{ ID string }
	h.Want(http.StatusCreated, http.MethodPost, "/api/v1/accounts", o.Key, `{"name":"Engines"}`).Into(t, &made)
	return made.ID
}

// kept counts the files in the store's directory.
func kept(t *testing.T, dir string) (n int) {
	t.Helper()
	err := filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			n++
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// What is too large or stands still is refused, and nothing of it is kept.
func TestUploadsAreBounded(t *testing.T) {
	t.Parallel()
	const most = 200_000
	h := tandemtest.Start(t, func(c *hub.Config) { c.MaxUpload, c.UploadGrace = most, 3*time.Second })
	o := h.NewOrg("bounded")
	account := anAccount(t, h, o)
	dir := filepath.Join(h.Config.Data, "blobs")
	path := "/api/v1/documents?name=a.txt&account_id="
	large := strings.Repeat("x", most+1)
	for name, body := range map[string]string{"raw": large, "form": form("file=a.txt", large), "long after its file": form("file=a.txt", "words", "x", large)} {
		header := plain
		if name != "raw" {
			header = formHeader
		}
		if a := h.Do(http.MethodPost, path+account, o.Key, body, header...); a.Status != http.StatusRequestEntityTooLarge && name != "long after its file" || a.Status < 400 {
			t.Errorf("%s: %d %s", name, a.Status, a.Body)
		}
		// Without a length it is found out on the way.
		if status := pour(t, h, o, path+account, struct{ io.Reader }{strings.NewReader(body)}, header); status < 400 {
			t.Errorf("%s without a length: %d", name, status)
		}
	}
	h.Want(http.StatusCreated, http.MethodPost, path+account, o.Key, large[:most], plain...)

	slow, hold := io.Pipe()
	go func() { _, _ = hold.Write([]byte("half")) }()
	began := time.Now()
	if status := pour(t, h, o, path+account, slow, plain); status != http.StatusRequestTimeout || time.Since(began) > 20*time.Second {
		t.Errorf("an upload that stands still: %d after %s", status, time.Since(began))
	}
	hold.Close()
	if n := kept(t, dir); n != 1 {
		t.Errorf("%d files are kept, want the one that was taken", n)
	}
	proof.Figure(t, "SEC-8", "files above the limit, with and without a length: refused, 0 kept; one that stands still ends after its time")
}

// So many uploads run at once and no more, and one organization does not take all of them.
func TestUploadsAtOnce(t *testing.T) {
	t.Parallel()
	h := tandemtest.Start(t, nil)
	path := "/api/v1/documents?name=a.txt&account_id="
	var held []*io.PipeWriter
	done := make(chan int)
	orgs := []tandemtest.Org{h.NewOrg("one"), h.NewOrg("two"), h.NewOrg("three")}
	accounts := make([]string, len(orgs))
	for i, o := range orgs {
		accounts[i] = anAccount(t, h, o)
	}
	full := func(i int) bool {
		a := h.Do(http.MethodPost, path+accounts[i], orgs[i].Key, "words", plain...)
		if a.Status == http.StatusServiceUnavailable && a.Header.Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
		return a.Status == http.StatusServiceUnavailable
	}
	for i, o := range orgs[:2] {
		const more = 4 // than an organization may have at once
		for range 8 + more {
			r, w := io.Pipe()
			held = append(held, w)
			go func() { done <- pour(t, h, o, path+accounts[i], r, plain) }()
			go func() { _, _ = w.Write([]byte("wo")) }() // fails on one that is refused
		}
		for range more {
			if status := <-done; status != http.StatusServiceUnavailable && status != cutOff {
				t.Errorf("one too many: %d", status)
			}
		}
		if !full(i) {
			t.Error("more uploads of one organization run at once than there may")
		}
		if i == 0 && full(1) {
			t.Error("one organization takes the uploads of another")
		}
	}
	if !full(2) {
		t.Error("more uploads run at once than there may")
	}
	for _, w := range held {
		go func() {
			_, _ = w.Write([]byte("rds"))
			w.Close()
		}()
	}
	for range 16 {
		if status := <-done; status != http.StatusCreated {
			t.Errorf("one that waited for its sender: %d", status)
		}
	}
	for i := range orgs {
		h.Eventually(10*time.Second, "there is room again", func() bool { return !full(i) })
	}
}

// cutOff stands for the status of an upload whose connection ended before it was sent to its end: it was refused.
const cutOff = 499

// pour sends a body as it comes and returns the status; what cannot be sent to its end may still be answered.
func pour(t *testing.T, h *tandemtest.Hub, o tandemtest.Org, path string, body io.Reader, header []string) int {
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, h.URL()+path, body)
	if err != nil {
		t.Error(err)
		return 0
	}
	req.Header.Set(header[0], header[1])
	req.Header.Set("X-API-Key", o.Key)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Log(err)
		return cutOff
	}
	res.Body.Close()
	return res.StatusCode
}

// A disk without room: away for now, and nothing is kept, neither bytes nor a row.
func TestUploadToAFullDisk(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("a small disk can be mounted by root only")
	}
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=12m,mode=0700", "tandem-test", dir).CombinedOutput(); err != nil {
		t.Skipf("a small disk cannot be mounted here: %s", out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", "-l", dir).CombinedOutput(); err != nil {
			t.Errorf("unmount the small disk: %v: %s", err, out)
		}
	})
	h := tandemtest.Start(t, func(c *hub.Config) { c.BlobURL = "file://" + dir })
	o := h.NewOrg("full")
	a := h.Do(http.MethodPost, "/api/v1/documents?name=a.txt&account_id="+anAccount(t, h, o), o.Key, "words", plain...)
	if a.Status != http.StatusServiceUnavailable || a.Header.Get("Retry-After") == "" {
		t.Errorf("%d %s", a.Status, a.Body)
	}
	if got := h.Want(http.StatusOK, http.MethodGet, "/api/v1/documents", o.Key, nil); !strings.Contains(string(got.Body), `"items":[]`) || kept(t, dir) != 0 {
		t.Errorf("something is kept: %d files, %s", kept(t, dir), got.Body)
	}
}

// A file that is gone from the store is told as such, and the record stays.
func TestFileIsGone(t *testing.T) {
	t.Parallel()
	h := tandemtest.Start(t, nil)
	o := h.NewOrg("gone")
	var d struct{ ID string }
	h.Want(http.StatusCreated, http.MethodPost, "/api/v1/documents?name=a.txt&account_id="+anAccount(t, h, o), o.Key, "words", plain...).Into(t, &d)
	path := "/api/v1/documents/" + d.ID
	h.Want(http.StatusOK, http.MethodGet, path+"/content", o.Key, nil)
	files, err := filepath.Glob(filepath.Join(h.Config.Data, "blobs", "*", "*"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	if err := os.Truncate(files[0], 2); err != nil {
		t.Fatal(err)
	}
	h.Want(http.StatusInternalServerError, http.MethodGet, path+"/content", o.Key, nil)
	if err := os.Remove(files[0]); err != nil {
		t.Fatal(err)
	}
	if a := h.Want(http.StatusNotFound, http.MethodGet, path+"/content", o.Key, nil); !strings.Contains(string(a.Body), "file store") {
		t.Errorf("%s", a.Body)
	}
	h.Want(http.StatusOK, http.MethodGet, path, o.Key, nil)
}
