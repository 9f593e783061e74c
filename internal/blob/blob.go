// Package blob keeps the contents of files, each under a random name: in a directory of this machine, or in an
// S3-compatible store. What a file is called, who may read it and what it belongs to is for the database to say.
package blob

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/url"
	"path/filepath"
	"time"

	"github.com/tandemhq/tandem"
)

// Store keeps contents. What it cannot do for now is Unavailable; the same call may succeed later. It is used from
// several goroutines.
type Store interface {
	// Put stores all that r gives, or nothing, and returns when it is safe. More than most bytes is ErrTooLarge. A
	// failure of r is returned as it came, so that the caller can tell whose fault it is.
	Put(ctx context.Context, key Key, r io.Reader, most int64) (Written, error)
	// Open returns a content, which the caller closes; ctx holds until then. One that is not there is NotFound.
	Open(ctx context.Context, key Key) (io.ReadSeekCloser, error)
	// Delete removes a content and what an interrupted Put left of it. One that is not there is no error.
	Delete(ctx context.Context, key Key) error
	// String says where it keeps them, without secrets.
	String() string
	Close() error
}

// ErrTooLarge is in the chain of what Put returns for more than it may take.
var ErrTooLarge = errors.New("blob: more bytes than allowed")

// Key names a content: the organization it belongs to, and an id. Nothing that a person wrote is ever part of it.
type Key struct{ Org, ID tandem.ID }

// path is the key as stores name it. A key that is no two ids is refused before it can name anything else.
func (k Key) path() (string, error) {
	for _, id := range []tandem.ID{k.Org, k.ID} {
		if _, err := tandem.ParseID(string(id)); err != nil {
			return "", fmt.Errorf("blob: %q is no key", k)
		}
	}
	return string(k.Org) + "/" + string(k.ID), nil
}

// Written is what Put has stored.
type Written struct {
	Size   int64
	SHA256 [sha256.Size]byte
}

// Options say where contents are kept.
type Options struct {
	Dir string // the directory, when URL is empty; it is made when it is not there
	// URL is file:///directory, or s3://bucket/prefix?endpoint=https://host:port&region=name, where all but the bucket
	// may be left out.
	URL                  string
	AccessKey, SecretKey string // of the S3-compatible store
}

const badURL = "--blob-url %q is no place for files; write s3://bucket?endpoint=https://host:port&region=name, or file:///directory."

// place reads the options: a directory, or else a bucket.
func (o Options) place() (dir string, b *bucket, err error) {
	if o.URL == "" {
		return o.Dir, nil, nil
	}
	u, err := url.Parse(o.URL)
	switch {
	case err == nil && u.Scheme == "file" && u.Host == "" && filepath.IsAbs(u.Path) && u.RawQuery == "":
		return u.Path, nil, nil
	case err == nil && u.Scheme == "s3" && u.Host != "" && u.User == nil && u.Port() == "":
		b, err = newBucket(u, o)
		return "", b, err
	}
	return "", nil, tandem.Errorf(tandem.Invalid, badURL, tandem.Clip(o.URL, 200))
}

// Check says whether the options can be used, without touching anything.
func (o Options) Check() error {
	_, _, err := o.place()
	return err
}

// New opens the store. It asks nothing of the network; see Check.
func New(o Options) (Store, error) {
	dir, b, err := o.place()
	switch {
	case err != nil:
		return nil, err
	case b != nil:
		return b, nil
	}
	return newFiles(dir)
}

// Check stores, reads and removes a few bytes.
func Check(ctx context.Context, s Store) error {
	key, text := Key{"00000000-0000-0000-0000-000000000000", tandem.NewID()}, []byte("Tandem was here.")
	if _, err := s.Put(ctx, key, bytes.NewReader(text), int64(len(text))); err != nil {
		return err
	}
	r, err := s.Open(ctx, key)
	if err != nil {
		return errors.Join(err, s.Delete(ctx, key))
	}
	got, err := io.ReadAll(r)
	if err = errors.Join(err, r.Close(), s.Delete(ctx, key)); err == nil && !bytes.Equal(got, text) {
		err = tandem.Errorf(tandem.Unavailable, "The file store did not give back what it was given.")
	}
	return err
}

const retryAfter = 5 * time.Second

// away says that the store cannot do something for now.
func away(err error, msg string) error {
	return &tandem.Error{Kind: tandem.Unavailable, Msg: msg, RetryAfter: retryAfter, Err: err}
}

func gone(err error) error {
	return tandem.Wrap(tandem.NotFound, err, "The content of this file is not in the file store any more.")
}

// meter counts, hashes and bounds what passes, and remembers what went wrong on the reader's side.
type meter struct {
	ctx context.Context
	r   io.Reader
	n   int64
	max int64
	sum hash.Hash
	err error
}

func newMeter(ctx context.Context, r io.Reader, most int64) *meter {
	return &meter{ctx: ctx, r: r, max: most, sum: sha256.New()}
}

func (m *meter) Read(p []byte) (n int, err error) {
	if err := m.ctx.Err(); err != nil {
		m.err = err
		return 0, err
	}
	if n, err = m.r.Read(p); m.n+int64(n) > m.max {
		m.err = ErrTooLarge
		return 0, m.err
	}
	m.n += int64(n)
	m.sum.Write(p[:n])
	if err != nil && !errors.Is(err, io.EOF) {
		m.err = err
	}
	return n, err
}

func (m *meter) written() Written {
	w := Written{Size: m.n}
	copy(w.SHA256[:], m.sum.Sum(nil))
	return w
}

// failure is err, unless it was the reader that failed.
func (m *meter) failure(err error, msg string) error {
	if m.err != nil {
		return m.err
	}
	if cerr := m.ctx.Err(); cerr != nil {
		return cerr
	}
	return away(err, msg)
}
