//go:build !mutant

package mutant

// Is says whether this program is to have the named defect. Never, in this build.
func Is(string) bool { return false }
