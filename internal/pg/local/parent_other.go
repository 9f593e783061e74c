//go:build !linux

package local

import "syscall"

// stopWithParent has no counterpart here: the next Start adopts the orphan.
func stopWithParent(*syscall.SysProcAttr) {}

func smallSharedMemory() bool { return false }
