// Package bench measures Tandem against what the machine can do at best, and against the goals of docs/performance.md.
//
// Tandem runs as a process of its own, built for release, on a PostgreSQL cluster that is started for the run with fsync
// on; the limits it is compared with run on a second database of the same cluster. Only figures of one run are compared,
// and a ratio is the median of the ratios of each repetition.
package bench

import (
	"fmt"
	"time"
)

// Row is one line of the table: a goal, what it wants and what was measured.
type Row struct {
	Goal  string `json:"goal"`            // such as "G1"
	Name  string `json:"name"`            // what was measured, in a few words
	Want  string `json:"want"`            // such as ">= 0.8"
	Got   string `json:"got"`             // the median
	Range string `json:"range"`           // min..max over the repetitions; empty for a single figure
	Note  string `json:"note,omitempty"`  // absolute figures, or why it was missed
	Held  bool   `json:"held"`            // Got is within Want
	Noisy bool   `json:"noisy,omitempty"` // the limit itself moved too much to judge
}

// Env is what every measurement gets.
type Env struct {
	Bin     string        // tandem, built for release and stripped
	Dir     string        // scratch, passable by other accounts; removed at the end of the run
	Cluster *Cluster      // PostgreSQL with fsync and synchronous_commit on
	Reps    int           // repetitions of every cell
	Cell    time.Duration // how long one cell is measured
	Soak    time.Duration // how long leads are taken at half of the limit; 0: five minutes, quick six seconds
	Seed    uint64        // of every random choice
	Quick   bool          // `make bench QUICK=1`: small data, short cells
	Log     func(format string, args ...any)
}

// Size is full in a full run and small in a quick one.
func Size[N any](e *Env, small, full N) N {
	if e.Quick {
		return small
	}
	return full
}

// Cells measures with [Env.Reps] repetitions: in each, every cell once, in an order of its own, so that no cell always
// follows the same other. The first error ends it.
func (e *Env) Cells(n int, measure func(rep, cell int) error) error {
	r := e.Rand("cells")
	for rep := range e.Reps {
		for _, cell := range r.Perm(n) {
			if err := measure(rep, cell); err != nil {
				return fmt.Errorf("repetition %d: %w", rep+1, err)
			}
		}
	}
	return nil
}
