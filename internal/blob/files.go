package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"

	"github.com/tandemhq/tandem"
)

// reserve is what Put leaves free: the database may be on the same disk, and needs room more than files do.
const reserve = 64 << 20

const noWrite = "The file store has no room, or cannot be written. Nothing was stored."

// files keeps contents in a directory: one below it for each organization, one file each. It reaches them through
// os.Root, so that no name and no link leads out of the directory.
type files struct {
	dir     string
	root    *os.Root
	reserve int64
}

var _ Store = (*files)(nil)

func newFiles(dir string) (*files, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, tandem.Wrap(tandem.Invalid, err, "The directory %s for files cannot be made.", dir)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, tandem.Wrap(tandem.Invalid, err, "The directory %s for files cannot be opened.", dir)
	}
	return &files{dir: dir, root: root, reserve: reserve}, nil
}

func (f *files) String() string { return f.dir }

func (f *files) Close() error { return f.root.Close() }

// Put writes beside the place, makes the bytes safe, and only then gives them their name: a name that is there has all
// of its bytes, whatever the power does.
func (f *files) Put(ctx context.Context, key Key, r io.Reader, most int64) (w Written, err error) {
	name, err := key.path()
	if err != nil {
		return w, err
	}
	if err := f.room(most); err != nil {
		return w, err
	}
	m := newMeter(ctx, r, most)
	if err := f.keep(string(key.Org), name, m); err != nil {
		_ = f.remove(name) // the failure that is told is the first one; what stays is swept later
		return w, m.failure(err, noWrite)
	}
	return m.written(), nil
}

func (f *files) keep(org, name string, r io.Reader) error {
	switch err := f.root.Mkdir(org, 0o700); {
	case err == nil:
		if err := f.sync("."); err != nil {
			return err
		}
	case !errors.Is(err, fs.ErrExist):
		return err
	}
	file, err := f.root.OpenFile(part(name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(file, r)
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return err
	}
	if err := f.root.Rename(part(name), name); err != nil {
		return err
	}
	return f.sync(org)
}

// part is the name of a file that has not got all of its bytes.
func part(name string) string { return name + ".part" }

// sync makes the names in a directory safe.
func (f *files) sync(dir string) error {
	d, err := f.root.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// room refuses what would take the last of the disk.
func (f *files) room(size int64) error {
	d, err := f.root.Open(".")
	if err != nil {
		return away(err, noWrite)
	}
	defer d.Close()
	var st syscall.Statfs_t
	if err := syscall.Fstatfs(int(d.Fd()), &st); err != nil {
		return away(err, noWrite)
	}
	free := int64(st.Bavail) * int64(st.Bsize) //nolint:unconvert // the types differ between systems
	if f.reserve > 0 && free < f.reserve+size {
		return away(fmt.Errorf("%d MB are free in %s", free>>20, f.dir), noWrite)
	}
	return nil
}

func (f *files) Open(_ context.Context, key Key) (io.ReadSeekCloser, error) {
	name, err := key.path()
	if err != nil {
		return nil, err
	}
	file, err := f.root.Open(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, gone(err)
	case err != nil:
		return nil, away(err, "The file store cannot be read.")
	}
	return file, nil
}

func (f *files) Delete(_ context.Context, key Key) error {
	name, err := key.path()
	if err != nil {
		return err
	}
	if err := f.remove(name); err != nil {
		return away(err, "The file store cannot be written.")
	}
	return nil
}

func (f *files) remove(name string) (err error) {
	for _, n := range []string{name, part(name)} {
		if rerr := f.root.Remove(n); rerr != nil && !errors.Is(rerr, fs.ErrNotExist) {
			err = errors.Join(err, rerr)
		}
	}
	return err
}
