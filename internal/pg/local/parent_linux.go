package local

import "syscall"

// stopWithParent asks the kernel to shut the child down when we die, however we die.
func stopWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGINT }

// smallSharedMemory tells whether /dev/shm is as small as containers have it.
func smallSharedMemory() bool {
	var st syscall.Statfs_t
	if err := syscall.Statfs("/dev/shm", &st); err != nil {
		return true
	}
	return uint64(st.Blocks)*uint64(st.Bsize) < 256<<20
}
