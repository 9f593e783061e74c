// Package faults breaks a running Tandem in every way that a machine can: the power goes, the database is killed or
// hangs, a disk is full, the bus's store is deleted, a process freezes, the clock jumps. Its tests run under
// `make prove` only; those that need root, FUSE or mounts say so and skip without them.
//
// A run that was killed may leave mounts behind; they are listed by `grep tandem-prove- /proc/mounts` and removed with
// `umount -l`.
package faults
