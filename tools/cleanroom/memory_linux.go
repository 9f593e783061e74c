package cleanroom

import (
	"bytes"
	"os"
	"strconv"
	"syscall"
)

// Values of statfs(2).
const (
	tmpfs  = 0x01021994 // TMPFS_MAGIC
	noExec = 0x8        // ST_NOEXEC
)

// Memory returns the folder of a file system in memory that programs may run from, or "" when the system has none with room
// for tests: clusters and databases come and go there without a disk. least is how many bytes have to be free, in the file
// system and in the memory of the machine.
func Memory(least uint64) string {
	const dir = "/dev/shm"
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil || fs.Type != tmpfs || fs.Flags&noExec != 0 {
		return ""
	}
	if fs.Bavail*uint64(fs.Bsize) < least || free() < least {
		return ""
	}
	return dir
}

// free is the memory that programs could still get, in bytes; 0 when the system does not say. A container's own limit counts.
func free() uint64 {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	_, rest, _ := bytes.Cut(text, []byte("MemAvailable:"))
	fields := bytes.Fields(rest)
	if len(fields) == 0 {
		return 0
	}
	kib, err := strconv.ParseUint(string(fields[0]), 10, 54)
	if err != nil {
		return 0
	}
	most := kib << 10
	limit, err := os.ReadFile("/sys/fs/cgroup/memory.max") // "max" where there is none
	if err != nil {
		return most
	}
	if n, err := strconv.ParseUint(string(bytes.TrimSpace(limit)), 10, 64); err == nil {
		most = min(most, n)
	}
	return most
}
