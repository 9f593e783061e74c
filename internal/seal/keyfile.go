package seal

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/tandemhq/tandem"
)

// LoadOrCreate reads the master key at path, or makes a new one there that only the
// current user may read. Of several processes that start at once, all get the same key.
// A file that others may read, or that holds no key, is Invalid: it is never overwritten.
func LoadOrCreate(path string) (*Sealer, error) {
	s, err := load(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return s, err
	}
	if err := create(path); err != nil {
		return nil, fmt.Errorf("create key file: %w", err)
	}
	return load(path)
}

func load(path string) (*Sealer, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open key file: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("look at key file: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, tandem.Errorf(tandem.Invalid, "The key file %s may be read by others; run chmod 600 on it.", path)
	}
	buf := make([]byte, 2*KeySize+2)
	n, err := f.Read(buf)
	if err != nil && n == 0 {
		return nil, tandem.Wrap(tandem.Invalid, err, "The key file %s is empty; restore it from a backup.", path)
	}
	master, err := hex.DecodeString(strings.TrimSpace(string(buf[:n])))
	if err != nil || len(master) != KeySize {
		return nil, tandem.Errorf(tandem.Invalid, "The key file %s does not hold a key; restore it from a backup.", path)
	}
	return Open(master)
}

// create writes a whole file beside path first and then links it into place: the link
// fails when somebody else was first, and nobody ever sees half a key.
func create(path string) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	master := make([]byte, KeySize)
	if _, err := rand.Read(master); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".key-*") // CreateTemp makes files with mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString(hex.EncodeToString(master) + "\n")
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync() // a key lost to a power cut would take every sealed value with it
}
