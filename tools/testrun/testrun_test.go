package main

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
)

const events = `{"Action":"start","Package":"github.com/tandemhq/tandem/inbox"}
{"Action":"output","Package":"github.com/tandemhq/tandem/inbox","Test":"TestClaim","Output":"    claim_test.go:9: figure: 1 winner of 64\n"}
{"Action":"pass","Package":"github.com/tandemhq/tandem/inbox","Test":"TestClaim","Elapsed":0.1}
{"Action":"output","Package":"github.com/tandemhq/tandem/inbox","Test":"TestReply","Output":"    reply_test.go:3: wrong fence\n"}
{"Action":"fail","Package":"github.com/tandemhq/tandem/inbox","Test":"TestReply"}
{"Action":"output","Package":"github.com/tandemhq/tandem/inbox","Test":"TestSlow","Output":"    slow_test.go:7: needs a clock\n"}
{"Action":"skip","Package":"github.com/tandemhq/tandem/inbox","Test":"TestSlow"}
{"Action":"fail","Package":"github.com/tandemhq/tandem/inbox"}
{"Action":"build-output","ImportPath":"github.com/tandemhq/tandem/crm","Output":"crm.go:1: no such thing\n"}
{"Action":"fail","Package":"github.com/tandemhq/tandem/crm","FailedBuild":"github.com/tandemhq/tandem/crm"}
{"Action":"output","Package":"github.com/tandemhq/tandem/bus","Test":"TestHangs","Output":"panic: out of time\n"}
{"Action":"fail","Package":"github.com/tandemhq/tandem/bus"}
`

func TestGoTally(t *testing.T) {
	t.Parallel()
	var tally goTally
	if err := tally.read(strings.NewReader(events)); err != nil {
		t.Fatal(err)
	}
	r := tally.result(errors.New("exit status 1"), "")
	if r.passed != 1 || r.failed != 3 || r.skipped != 1 {
		t.Errorf("got %d passed, %d failed, %d skipped", r.passed, r.failed, r.skipped)
	}
	for _, want := range []string{"wrong fence", "no such thing", "out of time"} {
		if !strings.Contains(r.output, want) {
			t.Errorf("the output lacks %q:\n%s", want, r.output)
		}
	}
	if len(r.figures) != 1 || r.figures[0] != "1 winner of 64" {
		t.Errorf("figures: %q", r.figures)
	}
	if len(r.notes) != 1 || r.notes[0] != "inbox TestSlow: needs a clock" {
		t.Errorf("notes: %q", r.notes)
	}
}

func TestNoTestIsAFailure(t *testing.T) {
	t.Parallel()
	var tally goTally
	if r := tally.result(nil, ""); r.failed != 1 {
		t.Errorf("got %+v", r)
	}
	if r := tally.result(errors.New("exit status 2"), "go: no such flag\n"); r.failed != 1 || !strings.Contains(r.output, "no such flag") {
		t.Errorf("got %+v", r)
	}
}

// A test that runs without the race detector is where the list says and nowhere else: another of its name would not run.
func TestUnracedAreThere(t *testing.T) {
	t.Parallel()
	declared := map[string][]string{}
	root := filepath.Join("..", "..")
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name := entry.Name(); entry.IsDir() && (name == "node_modules" || strings.HasPrefix(name, ".") && path != root) {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil {
				dir, err := filepath.Rel(root, filepath.Dir(path))
				if err != nil {
					return err
				}
				declared[f.Name.Name] = append(declared[f.Name.Name], "./"+filepath.ToSlash(dir))
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for pkg, tests := range unraced {
		for _, test := range tests {
			if got := declared[test]; len(got) != 1 || got[0] != pkg {
				t.Errorf("%s is to be in %s alone and is in %q", test, pkg, got)
			}
		}
	}
}
