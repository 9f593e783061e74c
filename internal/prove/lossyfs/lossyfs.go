//go:build linux

// Package lossyfs is a file system whose power can be cut. It shows a directory as it is, and when the power goes it
// takes back every byte that no fsync, fdatasync or O_SYNC write had made durable.
//
// It models the worst honest disk: data reaches it on a sync and never by itself, while names (create, rename, link,
// remove, truncate) are durable at once, as on a file system whose journal runs ahead of its data. So a file that was
// written and renamed without a sync is there after the cut, under its new name, and empty.
//
// It remembers, for each file, what the blocks written since the last sync held before, and puts that back. It needs
// root and /dev/fuse.
package lossyfs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// Options say how a disk behaves.
type Options struct {
	// Lies makes the disk confirm a sync without doing it, as some do.
	Lies bool
}

// Loss is what a power cut took.
type Loss struct {
	Files int   // files with bytes that were not durable
	Bytes int64 // in blocks of 4 KB
}

// FS is a mounted lossy file system.
type FS struct {
	point, store string
	o            Options
	server       *fuse.Server

	mu    sync.Mutex
	files map[uint64]*file // by inode number
}

// Available says why a lossy file system cannot be mounted here, or nil.
func Available() error {
	if os.Geteuid() != 0 {
		return errors.New("mounting needs root")
	}
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("FUSE is not available: %w", err)
	}
	return f.Close()
}

// Mount shows store, which must be on another place than point, at point for every account.
func Mount(point, store string, o Options) (*FS, error) {
	Detach(point) // what a killed process left
	f := &FS{point: point, store: store, o: o, files: map[uint64]*file{}}
	var st syscall.Stat_t
	if err := syscall.Stat(store, &st); err != nil {
		return nil, fmt.Errorf("look at the store %s: %w", store, err)
	}
	data := &fusefs.LoopbackRoot{Path: store, Dev: uint64(st.Dev)} //nolint:unconvert // the type differs between systems
	root := &node{LoopbackNode: fusefs.LoopbackNode{RootData: data}, fs: f}
	data.RootNode = root
	keep := time.Minute // nobody changes the store behind our back
	server, err := fusefs.Mount(point, root, &fusefs.Options{
		EntryTimeout: &keep, AttrTimeout: &keep,
		MountOptions: fuse.MountOptions{
			DirectMountStrict: true, AllowOther: true, Options: []string{"default_permissions"},
			FsName: "lossyfs", Name: "lossyfs", DisableXAttrs: true, MaxWrite: 1 << 20,
		},
	})
	if err != nil {
		return nil, fmt.Errorf("mount the lossy file system at %s: %w", point, err)
	}
	f.server = server
	return f, nil
}

// Detach unmounts whatever is mounted at point, also when it is in use or its server is dead.
func Detach(point string) {
	_ = syscall.Unmount(point, syscall.MNT_FORCE|syscall.MNT_DETACH) // nothing mounted is what we want
}

// Cut takes the power away: every operation under way fails, the file system is unmounted at once, and the store holds
// what was durable. Whoever still had files open there gets errors.
func (f *FS) Cut() (Loss, error) {
	if err := syscall.Unmount(f.point, syscall.MNT_FORCE|syscall.MNT_DETACH); err != nil {
		return Loss{}, fmt.Errorf("unmount %s: %w", f.point, err)
	}
	f.server.Wait()
	return f.forget()
}

// Close unmounts the file system and keeps everything, as an orderly shutdown of the machine does.
func (f *FS) Close() error {
	if err := f.server.Unmount(); err != nil {
		return fmt.Errorf("unmount %s: %w", f.point, err)
	}
	f.server.Wait()
	return nil
}

// forget takes back what was not durable.
func (f *FS) forget() (Loss, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var loss Loss
	err := filepath.WalkDir(f.store, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return fmt.Errorf("%s has no inode number", path)
		}
		if file := f.files[st.Ino]; file != nil {
			n, err := file.revert(path)
			if err != nil {
				return err
			}
			if n > 0 {
				loss.Files++
				loss.Bytes += n
			}
		}
		return nil
	})
	f.files = map[uint64]*file{}
	if err != nil {
		return loss, fmt.Errorf("take back what was not durable: %w", err)
	}
	return loss, nil
}

// file returns what is known of the file with this inode number.
func (f *FS) file(ino uint64) *file {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.files[ino] == nil {
		f.files[ino] = &file{fs: f}
	}
	return f.files[ino]
}

// fresh forgets an earlier file that had the same inode number.
func (f *FS) fresh(ino uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.files, ino)
}

// node is a directory or a file. Only what reads or changes a file's data differs from a plain pass-through.
type node struct {
	fusefs.LoopbackNode
	fs *FS
}

// WrapChild makes every node below one of ours.
func (n *node) WrapChild(context.Context, fusefs.InodeEmbedder) fusefs.InodeEmbedder {
	return &node{LoopbackNode: fusefs.LoopbackNode{RootData: n.RootData}, fs: n.fs}
}

// plain are the flags to open the store's file with: the block before a write is read through the same handle, and
// durability is ours.
func plain(flags uint32) (plain uint32, sync bool) {
	sync = flags&(syscall.O_SYNC|syscall.O_DSYNC) != 0
	plain = flags &^ (syscall.O_SYNC | syscall.O_DSYNC | syscall.O_DIRECT | syscall.O_APPEND)
	if plain&syscall.O_ACCMODE == syscall.O_WRONLY {
		plain = plain&^syscall.O_ACCMODE | syscall.O_RDWR
	}
	return plain, sync
}

func (n *node) Create(ctx context.Context, name string, flags, mode uint32, out *fuse.EntryOut) (*fusefs.Inode, fusefs.FileHandle, uint32, syscall.Errno) {
	open, sync := plain(flags)
	in, h, fuseFlags, errno := n.LoopbackNode.Create(ctx, name, open, mode, out)
	if errno != 0 {
		return in, h, fuseFlags, errno
	}
	ino := in.StableAttr().Ino
	if out.Size == 0 {
		n.fs.fresh(ino)
	}
	return in, &handle{data: h.(*fusefs.LoopbackFile), file: n.fs.file(ino), sync: sync}, fuseFlags, 0
}

func (n *node) Open(ctx context.Context, flags uint32) (fusefs.FileHandle, uint32, syscall.Errno) {
	open, sync := plain(flags)
	h, fuseFlags, errno := n.LoopbackNode.Open(ctx, open)
	if errno != 0 {
		return h, fuseFlags, errno
	}
	f := n.fs.file(n.StableAttr().Ino)
	if flags&syscall.O_TRUNC != 0 {
		f.resized(0)
	}
	return &handle{data: h.(*fusefs.LoopbackFile), file: f, sync: sync}, fuseFlags, 0
}

// Unlink drops what is known of a file whose last name goes.
func (n *node) Unlink(ctx context.Context, name string) syscall.Errno {
	var st syscall.Stat_t
	path := filepath.Join(n.fs.store, n.Path(n.Root()), name)
	known := syscall.Lstat(path, &st) == nil
	errno := n.LoopbackNode.Unlink(ctx, name)
	if errno == 0 && known && st.Nlink == 1 {
		n.fs.fresh(st.Ino)
	}
	return errno
}

func (n *node) Getattr(ctx context.Context, h fusefs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	return n.LoopbackNode.Getattr(ctx, inner(h), out)
}

// Setattr changes the size with the rest of the file held still; a new size is durable at once.
func (n *node) Setattr(ctx context.Context, h fusefs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	size, resize := in.GetSize()
	if !resize {
		return n.LoopbackNode.Setattr(ctx, inner(h), in, out)
	}
	f := n.fs.file(n.StableAttr().Ino)
	f.mu.Lock()
	defer f.mu.Unlock()
	errno := n.LoopbackNode.Setattr(ctx, inner(h), in, out)
	if errno == 0 {
		f.resizedLocked(int64(size))
	}
	return errno
}

// CopyFileRange makes the kernel copy by reading and writing, which we see.
func (n *node) CopyFileRange(context.Context, fusefs.FileHandle, uint64, *fusefs.Inode, fusefs.FileHandle, uint64, uint64, uint64) (uint32, syscall.Errno) {
	return 0, syscall.EOPNOTSUPP
}

// Fsync is for directories too, whose entries are durable already.
func (n *node) Fsync(ctx context.Context, h fusefs.FileHandle, flags uint32) syscall.Errno {
	if h, ok := h.(*handle); ok {
		return h.Fsync(ctx, flags)
	}
	return 0
}

func inner(h fusefs.FileHandle) fusefs.FileHandle {
	if h, ok := h.(*handle); ok {
		return h.data
	}
	return h
}
