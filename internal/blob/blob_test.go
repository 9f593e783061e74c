package blob

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/proof"
)

func newKey() Key { return Key{tandem.NewID(), tandem.NewID()} }

// suite is what every store must do.
func suite(t *testing.T, s Store, kept func() int) {
	t.Helper()
	ctx := t.Context()
	r := proof.Rand(t)
	for _, size := range []int{1, 512, 100_000, partSize, partSize + 1, 2*partSize + 77} {
		want := make([]byte, size)
		for i := range want {
			want[i] = byte(r.Uint32())
		}
		key := newKey()
		w, err := s.Put(ctx, key, iotest.HalfReader(bytes.NewReader(want)), int64(size))
		if err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
		if w.Size != int64(size) || w.SHA256 != sha256.Sum256(want) {
			t.Errorf("%d bytes: stored %d, or another sum", size, w.Size)
		}
		c, err := s.Open(ctx, key)
		if err != nil {
			t.Fatal(err)
		}
		if end, err := c.Seek(0, io.SeekEnd); err != nil || end != int64(size) {
			t.Errorf("%d bytes: the end is at %d, %v", size, end, err)
		}
		if _, err := c.Seek(int64(size/2), io.SeekStart); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, want[size/2:]) {
			t.Errorf("%d bytes: the second half is another one, %v", size, err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		for range 2 { // again is no error
			if err := s.Delete(ctx, key); err != nil {
				t.Error(err)
			}
		}
		if _, err := s.Open(ctx, key); tandem.KindOf(err) != tandem.NotFound {
			t.Errorf("open what is gone: %v", err)
		}
	}
	broken := errors.New("the sender went away")
	ended, cancel := context.WithCancel(ctx)
	cancel()
	for name, c := range map[string]struct {
		ctx  context.Context
		r    io.Reader
		want error
	}{
		"one byte too many":     {ctx, strings.NewReader(strings.Repeat("x", 101)), ErrTooLarge},
		"a sender that goes":    {ctx, io.MultiReader(strings.NewReader("half"), iotest.ErrReader(broken)), broken},
		"a sender that goes at": {ctx, io.MultiReader(strings.NewReader(strings.Repeat("x", 100)), iotest.ErrReader(broken)), broken},
		"nobody waits":          {ended, strings.NewReader("x"), context.Canceled},
	} {
		key := newKey()
		if _, err := s.Put(c.ctx, key, c.r, 100); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if _, err := s.Open(ctx, key); tandem.KindOf(err) != tandem.NotFound {
			t.Errorf("%s: something was kept: %v", name, err)
		}
	}
	if n := kept(); n != 0 {
		t.Errorf("%d contents are left over", n)
	}
	if err := Check(ctx, s); err != nil {
		t.Errorf("check: %v", err)
	}
	for _, id := range []tandem.ID{"", "..", "../../../../../../../../../../etc/pass", "/etc/passwd", "00000000-0000-0000-0000-00000000000/", "\x00", tandem.NewID() + "/.."} {
		for _, key := range []Key{{tandem.NewID(), id}, {id, tandem.NewID()}} {
			if _, err := s.Put(ctx, key, strings.NewReader("x"), 1); err == nil {
				t.Errorf("put under %q", key)
			}
			if _, err := s.Open(ctx, key); err == nil {
				t.Errorf("opened %q", key)
			}
			if err := s.Delete(ctx, key); err == nil {
				t.Errorf("deleted %q", key)
			}
		}
	}
}

// filesIn counts the files below a directory.
func filesIn(t *testing.T, dir string) (n int) {
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

func TestFiles(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "blobs")
	s, err := New(Options{URL: "file://" + dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	suite(t, s, func() int { return filesIn(t, dir) })
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the directory is open to others: %v, %v", info.Mode(), err)
	}
}

// A link that somebody lays into the directory leads nowhere.
func TestLinksLeadNowhere(t *testing.T) {
	t.Parallel()
	dir, outside := t.TempDir(), t.TempDir()
	s, err := newFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	key, secret := newKey(), newKey()
	if err := os.WriteFile(filepath.Join(outside, string(secret.ID)), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, org := range []tandem.ID{key.Org, secret.Org} {
		if err := os.Symlink(outside, filepath.Join(dir, string(org))); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Put(t.Context(), key, strings.NewReader("x"), 1); err == nil {
		t.Error("stored through a link")
	}
	if _, err := s.Open(t.Context(), secret); err == nil {
		t.Error("read through a link")
	}
	if err := s.Delete(t.Context(), secret); err == nil || filesIn(t, outside) != 1 {
		t.Errorf("deleted through a link: %v", err)
	}
}

// REL-4, the files' part: a disk that is full to the last byte takes nothing, keeps nothing of it, and goes on when there
// is room; before that, the last of the room is left to the database.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("a small disk can be mounted by root only")
	}
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=12m,mode=0700", "tandem-test", dir).CombinedOutput(); err != nil {
		t.Skipf("a small disk cannot be mounted here: %s", out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("unmount the small disk: %v: %s", err, out)
		}
	})
	s, err := newFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	whole := bytes.Repeat([]byte("x"), 20<<20)
	put := func(size int) error {
		_, err := s.Put(t.Context(), newKey(), bytes.NewReader(whole[:size]), int64(size))
		return err
	}
	full := func(what string, err error) {
		t.Helper()
		var te *tandem.Error
		if !errors.As(err, &te) || te.Kind != tandem.Unavailable || te.RetryAfter <= 0 {
			t.Errorf("%s: %v", what, err)
		}
	}
	full("less is free than is left to the database", put(1))
	s.reserve = 0
	for range 3 {
		full("more than the disk holds", put(len(whole)))
		if n := filesIn(t, dir); n != 0 {
			t.Fatalf("%d files are left of what did not fit", n)
		}
	}
	if err := put(8 << 20); err != nil {
		t.Errorf("what fits: %v", err)
	}
	proof.Figure(t, "SEC-8", "file store full: 4 uploads refused as away for now, 0 bytes left of them, the next that fits is taken")
}

func TestOptions(t *testing.T) {
	t.Parallel()
	for _, url := range []string{
		"s3://", "s3://bucket?endpoint=ftp://x", "s3://bucket?surprise=1", "s3://user:secret@bucket", "s3://bucket?endpoint=https://user:secret@x",
		"s3://bucket?endpoint=https://x/path", "s3://bucket?region=", "http://bucket", "/srv/files", "file://host/srv", "file:relative", "::",
	} {
		if err := (Options{URL: url, AccessKey: "a", SecretKey: "b"}).Check(); tandem.KindOf(err) != tandem.Invalid {
			t.Errorf("%s: %v", url, err)
		}
	}
	if err := (Options{URL: "s3://bucket"}).Check(); tandem.KindOf(err) != tandem.Invalid || !strings.Contains(tandem.Message(err), "TANDEM_BLOB_ACCESS_KEY") {
		t.Errorf("without keys: %v", err)
	}
	for _, url := range []string{"s3://bucket", "s3://bucket/a/b?endpoint=store.example:9000&region=eu", "file:///srv/files"} {
		if err := (Options{URL: url, AccessKey: "a", SecretKey: "b"}).Check(); err != nil {
			t.Errorf("%s: %v", url, err)
		}
	}
}
