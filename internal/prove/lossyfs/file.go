//go:build linux

package lossyfs

import (
	"context"
	"fmt"
	"os"
	"sync"
	"syscall"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

const blockSize = 4096

// file is what would be left of one file if the power went now.
type file struct {
	fs *FS

	mu      sync.Mutex
	dirty   bool             // written since the last sync; the rest counts only then
	durable int64            // its size
	before  map[int64][]byte // durable content of the blocks written since; nil is zeros
}

// handle is an open file.
type handle struct {
	data *fusefs.LoopbackFile
	file *file
	sync bool // opened with O_SYNC or O_DSYNC
}

func (h *handle) Read(ctx context.Context, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	return h.data.Read(ctx, dest, off)
}

func (h *handle) Lseek(ctx context.Context, off uint64, whence uint32) (uint64, syscall.Errno) {
	return h.data.Lseek(ctx, off, whence)
}

func (h *handle) Release(ctx context.Context) syscall.Errno { return h.data.Release(ctx) }

// Flush is a close, which makes nothing durable.
func (h *handle) Flush(context.Context) syscall.Errno { return 0 }

func (h *handle) Write(ctx context.Context, data []byte, off int64) (uint32, syscall.Errno) {
	f := h.file
	f.mu.Lock()
	defer f.mu.Unlock()
	size, errno := h.size(ctx)
	if errno != 0 {
		return 0, errno
	}
	if !f.dirty {
		f.dirty, f.durable, f.before = true, size, map[int64][]byte{}
	}
	first, last := off/blockSize, (off+int64(len(data))-1)/blockSize
	for b := first; b <= last; b++ {
		if _, ok := f.before[b]; ok {
			continue
		}
		var old []byte
		if b*blockSize < f.durable {
			if old, errno = h.block(ctx, b); errno != 0 {
				return 0, errno
			}
		}
		f.before[b] = old
	}
	n, errno := h.data.Write(ctx, data, off)
	if errno == 0 && h.sync && !f.fs.o.Lies {
		for b := first; b <= last; b++ {
			delete(f.before, b)
		}
		f.durable = max(f.durable, off+int64(n))
	}
	return n, errno
}

// block reads one block as it is now, shorter at the end of the file.
func (h *handle) block(ctx context.Context, b int64) ([]byte, syscall.Errno) {
	buf := make([]byte, blockSize)
	res, errno := h.data.Read(ctx, buf, b*blockSize)
	if errno != 0 {
		return nil, errno
	}
	defer res.Done()
	got, status := res.Bytes(buf)
	if !status.Ok() {
		return nil, syscall.EIO
	}
	return got, 0
}

func (h *handle) size(ctx context.Context) (int64, syscall.Errno) {
	var out fuse.AttrOut
	errno := h.data.Getattr(ctx, &out)
	return int64(out.Size), errno
}

// Fsync makes all of the file durable. The disk below is not asked: it stays powered.
func (h *handle) Fsync(context.Context, uint32) syscall.Errno {
	if h.file.fs.o.Lies {
		return 0
	}
	h.file.mu.Lock()
	defer h.file.mu.Unlock()
	h.file.dirty, h.file.before = false, nil
	return 0
}

// Allocate makes room, whose zeros are durable at once. Punching holes is refused.
func (h *handle) Allocate(ctx context.Context, off, size uint64, mode uint32) syscall.Errno {
	const keepSize = 1
	if mode&^keepSize != 0 {
		return syscall.EOPNOTSUPP
	}
	h.file.mu.Lock()
	defer h.file.mu.Unlock()
	errno := h.data.Allocate(ctx, off, size, mode)
	if errno == 0 && mode == 0 {
		h.file.durable = max(h.file.durable, int64(off+size))
	}
	return errno
}

func (f *file) resized(size int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.resizedLocked(size)
}

// resizedLocked notes a new size. What a file loses and gets back by growing again is zeros.
func (f *file) resizedLocked(size int64) {
	if !f.dirty {
		return
	}
	f.durable = size
	for b, old := range f.before {
		switch start := b * blockSize; {
		case start >= size:
			f.before[b] = nil
		case start+int64(len(old)) > size:
			f.before[b] = old[:size-start]
		}
	}
}

// revert gives the file at path its durable content and returns how much that took back.
func (f *file) revert(path string) (n int64, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.dirty {
		return 0, nil
	}
	w, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return 0, fmt.Errorf("open what was not durable: %w", err)
	}
	defer w.Close()
	if err := w.Truncate(f.durable); err != nil {
		return 0, fmt.Errorf("take back the size of %s: %w", path, err)
	}
	zeros := make([]byte, blockSize)
	for b, old := range f.before {
		start := b * blockSize
		n += blockSize
		if start >= f.durable {
			continue
		}
		whole := append(old[:len(old):len(old)], zeros[len(old):]...)
		if _, err := w.WriteAt(whole[:min(blockSize, f.durable-start)], start); err != nil {
			return n, fmt.Errorf("take back a block of %s: %w", path, err)
		}
	}
	return n, nil
}
