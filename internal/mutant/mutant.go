// Package mutant is the proof that the tests see: deliberate defects that exist only in a binary built with the tag
// "mutant", one of which runs when TANDEM_MUTANT names it. `make mutants` runs the tests of each and fails when they
// stay green. Without the tag Is is a constant false and the compiler removes the defect.
package mutant

// Env names the mutant to be, in a binary built with the tag "mutant".
const Env = "TANDEM_MUTANT"
