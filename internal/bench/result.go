package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem/internal/pg/local"
)

// Result is a whole run: what was measured, where and when.
type Result struct {
	Began    time.Time     `json:"began"`
	Took     time.Duration `json:"took_ns"`
	Seed     uint64        `json:"seed"`
	Reps     int           `json:"reps"`
	Cell     time.Duration `json:"cell_ns"`
	Quick    bool          `json:"quick"`
	Revision string        `json:"revision"` // of the source, with "+" when it had changes
	Versions []string      `json:"versions"` // Go, PostgreSQL
	CPUs     int           `json:"cpus"`
	Load     [2]string     `json:"load"` // the machine's load average before and after
	Rows     []Row         `json:"rows"`

	env *Env
}

// NewResult begins a run.
func NewResult(ctx context.Context, e *Env) *Result {
	return &Result{
		Began: time.Now(), Seed: e.Seed, Reps: e.Reps, Cell: e.Cell, Quick: e.Quick, Revision: revision(ctx),
		Versions: []string{runtime.Version()}, CPUs: runtime.NumCPU(), Load: [2]string{loadavg()}, env: e,
	}
}

// Add appends rows to the table and logs them.
func (r *Result) Add(rows ...Row) {
	for _, row := range rows {
		r.env.Log("%s %s: %s (want %s) %s %s", row.Goal, row.Name, row.Got, row.Want, row.verdict(), row.Note)
	}
	r.Rows = append(r.Rows, rows...)
}

// Done ends the run.
func (r *Result) Done() {
	r.Took = time.Since(r.Began)
	r.Load[1] = loadavg()
	if v, err := r.env.Cluster.version(); err == nil {
		r.Versions = append(r.Versions, "PostgreSQL "+v)
	}
}

func (c *Cluster) version() (v string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, c.DSN("postgres", local.Super))
	if err != nil {
		return "", err
	}
	defer conn.Close(ctx)
	return v, conn.QueryRow(ctx, "SHOW server_version").Scan(&v)
}

// Held says whether every goal that could be judged was held.
func (r *Result) Held() bool {
	for _, row := range r.Rows {
		if !row.Held && !row.Noisy {
			return false
		}
	}
	return true
}

func (r Row) verdict() string {
	switch {
	case r.Noisy:
		return "noisy"
	case r.Held:
		return "held"
	}
	return "MISSED"
}

// Print writes the table.
func (r *Result) Print(w io.Writer) {
	size := "full"
	if r.Quick {
		size = "quick"
	}
	fmt.Fprintf(w, "\n%s run of %s, %s, %d CPUs, revision %s, seed %d, %d repetitions of %s, load %s to %s, took %.0f s\n\n",
		size, r.Began.UTC().Format("2006-01-02 15:04"), strings.Join(r.Versions, ", "), r.CPUs, r.Revision, r.Seed, r.Reps, r.Cell,
		r.Load[0], r.Load[1], r.Took.Seconds())
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "goal\twhat\twant\tmeasured\tmin..max\t\tnote")
	for _, row := range r.Rows {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", row.Goal, row.Name, row.Want, row.Got, row.Range, row.verdict(), row.Note)
	}
	t.Flush()
	fmt.Fprintln(w)
}

// Write keeps the result in a file.
func (r *Result) Write(path string) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the result: %w", err)
	}
	return os.WriteFile(path, append(b, '\n'), 0o644)
}

// ReadResult reads what Write wrote.
func ReadResult(path string) (*Result, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var r Result
	if err := json.Unmarshal(b, &r); err != nil {
		return nil, fmt.Errorf("read the result %s: %w", path, err)
	}
	return &r, nil
}

func revision(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty=+", "--abbrev=10").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}

func loadavg() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	one, _, _ := strings.Cut(string(b), " ")
	return one
}
