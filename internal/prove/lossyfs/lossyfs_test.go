//go:build linux

package lossyfs_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/tandemhq/tandem/internal/proof"
	"github.com/tandemhq/tandem/internal/prove/lossyfs"
)

func TestMain(m *testing.M) {
	// The test binary is the server's program too: see Serve.
	if store := os.Getenv("LOSSYFS_STORE"); store != "" {
		if err := lossyfs.Serve(os.Getenv("LOSSYFS_POINT"), store, lossyfs.Options{}, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// disk is a mount whose power a test cuts.
type disk struct {
	t            *testing.T
	point, store string
	fs           *lossyfs.FS
}

func newDisk(t *testing.T, o lossyfs.Options) *disk {
	t.Helper()
	if err := lossyfs.Available(); err != nil {
		t.Skip(err)
	}
	base := t.TempDir()
	d := &disk{t: t, point: filepath.Join(base, "point"), store: filepath.Join(base, "store")}
	for _, dir := range []string{d.point, d.store} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { lossyfs.Detach(d.point) })
	d.mount(o)
	return d
}

func (d *disk) mount(o lossyfs.Options) {
	d.t.Helper()
	f, err := lossyfs.Mount(d.point, d.store, o)
	if err != nil {
		d.t.Fatal(err)
	}
	d.fs = f
}

func (d *disk) cut() lossyfs.Loss {
	d.t.Helper()
	loss, err := d.fs.Cut()
	if err != nil {
		d.t.Fatal(err)
	}
	return loss
}

func (d *disk) path(name string) string { return filepath.Join(d.point, name) }

func (d *disk) open(name string, flags int) *os.File {
	d.t.Helper()
	f, err := os.OpenFile(d.path(name), flags|os.O_CREATE, 0o600)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { _ = f.Close() })
	return f
}

func (d *disk) do(err error) {
	d.t.Helper()
	if err != nil {
		d.t.Fatal(err)
	}
}

// left is what the store holds under name.
func (d *disk) left(name string) string {
	d.t.Helper()
	b, err := os.ReadFile(filepath.Join(d.store, name))
	if err != nil {
		d.t.Fatal(err)
	}
	return string(b)
}

func TestOnlyWhatWasSyncedSurvives(t *testing.T) {
	t.Parallel()
	d := newDisk(t, lossyfs.Options{})
	write := func(f *os.File, text string) {
		t.Helper()
		if _, err := f.WriteString(text); err != nil {
			t.Fatal(err)
		}
	}
	synced := d.open("synced", os.O_WRONLY)
	write(synced, "kept ")
	d.do(synced.Sync())
	write(synced, "lost")
	write(d.open("never", os.O_RDWR), "lost")
	always := d.open("always", os.O_WRONLY|os.O_SYNC)
	write(always, "kept ")
	write(always, "too")
	renamed := d.open("renamed.tmp", os.O_WRONLY)
	write(renamed, "content")
	d.do(os.Rename(d.path("renamed.tmp"), d.path("renamed")))
	shorter := d.open("shorter", os.O_RDWR)
	write(shorter, "0123456789")
	d.do(shorter.Sync())
	d.do(shorter.Truncate(4))
	appended := d.open("appended", os.O_WRONLY|os.O_APPEND)
	write(appended, "one ")
	d.do(appended.Sync())
	write(appended, "two ")
	d.do(os.Mkdir(d.path("folder"), 0o700))
	folder, err := os.Open(d.path("folder"))
	d.do(err)
	d.do(folder.Sync())
	d.do(folder.Close())
	gone := d.open("gone", os.O_WRONLY)
	write(gone, "x")
	d.do(os.Remove(d.path("gone")))
	if got, err := os.ReadFile(d.path("synced")); err != nil || string(got) != "kept lost" {
		t.Errorf("before the cut: %q, %v", got, err)
	}

	loss := d.cut()
	for name, want := range map[string]string{
		"synced": "kept ", "never": "", "always": "kept too", "renamed": "", "shorter": "0123", "appended": "one ",
	} {
		if got := d.left(name); got != want {
			t.Errorf("%s holds %q after the cut, want %q", name, got, want)
		}
	}
	if loss.Files != 4 || loss.Bytes == 0 {
		t.Errorf("loss %+v, want that of synced, never, renamed and appended", loss)
	}
	if _, err := synced.WriteString("more"); err == nil {
		t.Error("a file can be written after the cut")
	}
	if _, err := os.Stat(d.path("synced")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the mount is still there: %v", err)
	}
}

func TestADiskThatLies(t *testing.T) {
	t.Parallel()
	d := newDisk(t, lossyfs.Options{Lies: true})
	f := d.open("f", os.O_WRONLY)
	if _, err := f.WriteString("synced, it says"); err != nil {
		t.Fatal(err)
	}
	d.do(f.Sync())
	d.cut()
	if got := d.left("f"); got != "" {
		t.Errorf("%q survived", got)
	}
}

// TestAgainstAModel writes, syncs, resizes and replaces files at random and compares what each cut leaves with a
// model that keeps two copies of every file.
func TestAgainstAModel(t *testing.T) {
	t.Parallel()
	d := newDisk(t, lossyfs.Options{})
	r := proof.Rand(t)
	type copies struct {
		f            *os.File
		now, durable []byte
	}
	const names, block = 4, 4096
	files := map[string]*copies{}
	resize := func(b []byte, n int) []byte {
		return append(b[:min(n, len(b)):min(n, len(b))], make([]byte, max(0, n-len(b)))...)
	}
	cuts, lost := 0, int64(0)
	for range proof.Size(6, 60) {
		for range 200 {
			name := fmt.Sprint("f", r.IntN(names))
			c := files[name]
			if c == nil {
				c = &copies{f: d.open(name, os.O_RDWR)}
				files[name] = c
				if got := d.left(name); got != "" { // opened again after a cut
					c.now, c.durable = []byte(got), []byte(got)
				}
			}
			switch k := r.IntN(20); {
			case k < 12:
				off := r.IntN(12) * block
				data := bytes.Repeat([]byte{byte(1 + r.IntN(255))}, (1+r.IntN(3))*block)
				if _, err := c.f.WriteAt(data, int64(off)); err != nil {
					t.Fatal(err)
				}
				c.now = resize(c.now, max(len(c.now), off+len(data)))
				copy(c.now[off:], data)
			case k < 15:
				d.do(c.f.Sync())
				c.durable = bytes.Clone(c.now)
			case k < 17:
				n := r.IntN(12) * block / 2
				d.do(c.f.Truncate(int64(n)))
				c.now, c.durable = resize(c.now, n), resize(c.durable, n)
			case k < 18:
				d.do(c.f.Close())
				d.do(os.Remove(d.path(name)))
				delete(files, name)
			case k < 19:
				to := fmt.Sprint("f", r.IntN(names))
				if to == name {
					continue
				}
				d.do(os.Rename(d.path(name), d.path(to)))
				if old := files[to]; old != nil {
					d.do(old.f.Close())
				}
				files[to] = c
				delete(files, name)
			default:
				got := make([]byte, len(c.now))
				if _, err := c.f.ReadAt(got, 0); err != nil && len(got) > 0 || !bytes.Equal(got, c.now) {
					t.Fatalf("%s reads wrong: %v", name, err)
				}
			}
		}
		lost += d.cut().Bytes
		cuts++
		for name, c := range files {
			if got := d.left(name); got != string(c.durable) {
				t.Fatalf("cut %d: %s differs: %s", cuts, name, difference([]byte(got), c.durable))
			}
			delete(files, name)
		}
		d.mount(lossyfs.Options{})
	}
	d.do(d.fs.Close())
	t.Logf("figure: lossy file system: %d cuts against a model, %d KB taken back, every byte as expected", cuts, lost>>10)
}

func difference(got, want []byte) string {
	if len(got) != len(want) {
		return fmt.Sprintf("%d bytes, want %d", len(got), len(want))
	}
	for i := range got {
		if got[i] != want[i] {
			return fmt.Sprintf("byte %d is %d, want %d", i, got[i], want[i])
		}
	}
	return "not at all"
}

// TestProcess runs the server as a program, as the power cuts of the proving ground do.
func TestProcess(t *testing.T) {
	t.Parallel()
	if err := lossyfs.Available(); err != nil {
		t.Skip(err)
	}
	base := t.TempDir()
	point, store := filepath.Join(base, "point"), filepath.Join(base, "store")
	script := filepath.Join(base, "server")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// #nosec: a program for this test only
	if err := os.WriteFile(script, fmt.Appendf(nil, "#!/bin/sh\nLOSSYFS_POINT=$1 LOSSYFS_STORE=$2 exec %s\n", self), 0o700); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		p, err := lossyfs.Start(t.Context(), script, point, store, lossyfs.Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.Stop)
		if err := os.WriteFile(filepath.Join(point, fmt.Sprint("f", rand.Uint64())), []byte("lost"), 0o600); err != nil {
			t.Fatal(err)
		}
		if loss, err := p.Cut(); err != nil || loss != (lossyfs.Loss{Files: 1, Bytes: 4096}) {
			t.Errorf("loss %+v, %v", loss, err)
		}
	}
	var st, up syscall.Stat_t
	if err := errors.Join(syscall.Stat(point, &st), syscall.Stat(base, &up)); err != nil || st.Dev != up.Dev {
		t.Errorf("still mounted: %v", err)
	}
}
