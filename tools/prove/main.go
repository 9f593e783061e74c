// Command prove shows which promises of docs/promises.md hold on this machine, now. `make prove` runs the tests that
// stand for each goal at the promised size and prints one table; `make mutants` builds deliberate defects in, one at a
// time, and fails when the tests stay green; `make promises` writes the measured figures into docs/promises.md.
//
// The runs share one PostgreSQL cluster that this program starts and stops. One thing runs at a time, because many of
// the figures are times. Nothing is left running, interrupted or not.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/tandemhq/tandem/tools/cleanroom"
)

// options are what the command line says.
type options struct {
	seed   uint64
	only   []string      // goal ids or names of mutants; none: all
	within time.Duration // the time a run of all goals may take with the mutants
	lanes  int           // mutants that are tried at the same time
	dir    string        // where the tables are written
	file   string        // docs/promises.md
}

func main() {
	command := "prove"
	args := os.Args[1:]
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		command, args = args[0], args[1:]
	}
	var o options
	var only string
	flags := flag.NewFlagSet(command, flag.ExitOnError)
	flags.Uint64Var(&o.seed, "seed", 0, "seed of every random choice; 0 chooses one")
	flags.StringVar(&only, "only", "", "goal ids, or names of mutants, with commas between them")
	flags.DurationVar(&o.within, "within", 58*time.Minute, "the mutants are left out when they do not fit into this time")
	flags.IntVar(&o.lanes, "lanes", 2, "mutants tried at the same time")
	flags.StringVar(&o.dir, "out", "bin", "folder for prove.json, prove.md and mutants.json")
	flags.StringVar(&o.file, "promises", "docs/promises.md", "the page that shows the figures")
	_ = flags.Parse(args) // it exits on an error
	o.only = words(only)
	if o.seed == 0 {
		o.seed = rand.Uint64() >> 1
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	cleanroom.AdoptOrphans()
	code := run(ctx, os.Stdout, command, o)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, out io.Writer, command string, o options) int {
	var do func(context.Context, *ground, options) (bool, error)
	switch command {
	case "prove":
		do = prove
	case "mutants":
		do = mutate
	case "promises":
		if err := writePromises(o); err != nil {
			fmt.Fprintln(out, "promises:", err)
			return 1
		}
		return 0
	default:
		fmt.Fprintf(out, "prove: there is no command %q; use prove, mutants or promises\n", command)
		return 2
	}
	room, err := cleanroom.Open("", "tandem-make-prove-") // on the disk: it is part of what is proved
	if err != nil {
		fmt.Fprintln(out, "prove:", err)
		return 1
	}
	defer room.Close()
	ok := false
	stopPostgres, err := room.StartPostgres(ctx)
	if err == nil {
		ok, err = do(ctx, &ground{room: room, out: out, bins: map[string]string{}}, o)
		if err := stopPostgres(); err != nil {
			fmt.Fprintln(out, "prove:", err)
		}
	}
	for _, name := range cleanroom.EndOrphans() {
		fmt.Fprintln(out, "left running and ended:", name)
	}
	switch {
	case ctx.Err() != nil:
		fmt.Fprintln(out, "Interrupted.")
		return 130
	case err != nil:
		fmt.Fprintln(out, "prove:", err)
		return 1
	case !ok:
		return 1
	}
	return 0
}

// words are the parts of a list with commas or spaces between them.
func words(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' })
}

func (o options) path(name string) string { return filepath.Join(o.dir, name) }
