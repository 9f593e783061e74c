//go:build !linux

package cleanroom

// AdoptOrphans does nothing where the system cannot do it.
func AdoptOrphans() {}

// EndOrphans does nothing where the system cannot do it.
func EndOrphans() []string { return nil }
