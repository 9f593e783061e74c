package main

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/tandemhq/tandem/tools/cleanroom"
)

const page = "../../docs/promises.md"

// What is promised is proven, and what is proven is said.
func TestPromisesAndGoalsAgree(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	said := promised(string(text))
	for _, id := range said {
		if place(id) < 0 {
			t.Errorf("docs/promises.md names %s, which no test stands for: add it to goals.go", id)
		}
	}
	for i, g := range goals {
		if !slices.Contains(said, g.ID) {
			t.Errorf("docs/promises.md does not say what %s promises", g.ID)
		}
		if place(g.ID) != i {
			t.Errorf("%s stands twice in goals.go", g.ID)
		}
	}
	if len(slices.Compact(slices.Sorted(slices.Values(said)))) != len(said) {
		t.Errorf("docs/promises.md names a goal twice")
	}
}

// Every test that is named exists, so that a renamed one is noticed here and not by `make prove`.
func TestNamedTestsExist(t *testing.T) {
	t.Parallel()
	names := map[string][]string{}
	check := func(who string, tests []Test) {
		for _, n := range tests {
			if names[n.Package] == nil {
				names[n.Package] = testsIn(t, n.Package)
			}
			for _, part := range strings.Split(n.Run, "|") {
				re, err := regexp.Compile(part)
				if err != nil {
					t.Errorf("%s: %v", who, err)
					continue
				}
				if !slices.ContainsFunc(names[n.Package], re.MatchString) {
					t.Errorf("%s: %s has no test %s", who, n.Package, part)
				}
			}
		}
	}
	for _, g := range goals {
		check(g.ID, g.Tests)
	}
	for _, m := range mutants {
		check(m.Name, m.Tests)
	}
}

// Every defect in the product is tried, and what is tried exists.
func TestMutantsAndDefectsAgree(t *testing.T) {
	t.Parallel()
	named := map[string]bool{}
	is := regexp.MustCompile(`mutant\.Is\("([a-z0-9-]+)"\)`)
	err := walkGo("../..", func(text string) {
		for _, m := range is.FindAllStringSubmatch(text, -1) {
			named[m[1]] = true
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	for name := range named {
		if !slices.ContainsFunc(mutants, func(m Mutant) bool { return m.Name == name }) {
			t.Errorf("the defect %s is tried by nobody: add it to mutants.go", name)
		}
	}
	for _, m := range mutants {
		if !named[m.Name] {
			t.Errorf("the product has no defect %s", m.Name)
		}
	}
	if len(mutants) < 18 {
		t.Errorf("%d mutants", len(mutants))
	}
}

func TestRefreshed(t *testing.T) {
	t.Parallel()
	const before = "Words.\n| command | promised | last measured |\n|---|---|---|\n" +
		"| `make prove ONLY=REL-1` | nothing is lost | – |\n| `make prove ONLY=CLM-1` | one winner | an old figure |\n| `make prove ONLY=AI-1` | no harm | as before |\n"
	report := Report{Goals: []Row{
		{Goal: Goal{ID: "REL-1"}, Measured: []string{"10,000 messages: 0 lost", "a | b"}, Held: true},
		{Goal: Goal{ID: "CLM-1"}, Measured: []string{"1 winner"}, Cause: "missed: p99 60 ms"},
	}}
	const want = "Words.\n| command | promised | last measured |\n|---|---|---|\n" +
		"| `make prove ONLY=REL-1` | nothing is lost | 10,000 messages: 0 lost; a \\| b |\n" +
		"| `make prove ONLY=CLM-1` | one winner | **Not held.** 1 winner; missed: p99 60 ms |\n| `make prove ONLY=AI-1` | no harm | as before |\n"
	got := refreshed(before, report)
	if got != want {
		t.Errorf("got\n%s", got)
	}
	if again := refreshed(got, report); again != want {
		t.Errorf("a second time:\n%s", again)
	}
}

func TestJudge(t *testing.T) {
	t.Parallel()
	a, b := in("a", "A"), in("b", "B")
	for name, c := range map[string]struct {
		tests        []Test
		ran          map[Test]outcome
		held, failed bool
		cause        string
		measured     int
	}{
		"held":              {[]Test{a}, map[Test]outcome{a: {passed: 1, figures: []string{"X-1: ten", "X-10: not mine"}}}, true, false, "", 1},
		"measured by other": {[]Test{a}, map[Test]outcome{a: {passed: 1}, b: {passed: 1, figures: []string{"X-1: ten"}}}, true, false, "", 1},
		"failed":            {[]Test{a, b}, map[Test]outcome{a: {failed: []string{"TestA"}, figures: []string{"X-1: ten"}}}, false, true, "failed: TestA", 1},
		"missed":            {[]Test{a}, map[Test]outcome{a: {passed: 1, figures: []string{"X-1: MISSED: too slow", "X-1: ten"}}}, false, false, "missed: too slow", 1},
		"skipped":           {[]Test{a}, map[Test]outcome{a: {skipped: []string{"it needs root"}}}, false, false, "skipped: it needs root", 0},
		"no figure":         {[]Test{a}, map[Test]outcome{a: {passed: 1}}, false, true, "its tests passed and printed no figure", 0},
		"no test":           {nil, nil, false, true, "no test stands for it", 0},
	} {
		r := Row{Goal: Goal{ID: "X-1", Tests: c.tests}}
		r.judge(c.ran)
		if r.Held != c.held || r.Failed != c.failed || r.Cause != c.cause || len(r.Measured) != c.measured {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

func TestReading(t *testing.T) {
	t.Parallel()
	var r reading
	for _, e := range []cleanroom.TestEvent{
		{Action: "output", Test: "TestOne", Output: "    one_test.go:9: figure: X-1: ten\n"},
		{Action: "pass", Test: "TestOne"},
		{Action: "output", Test: "TestTwo", Output: "    two_test.go:3: wrong\n"},
		{Action: "fail", Test: "TestTwo"},
		{Action: "fail"},
	} {
		r.add(e)
	}
	o := r.outcome(os.ErrInvalid)
	if o.green() || o.passed != 1 || o.killer() != "TestTwo" || len(o.figures) != 1 || !strings.Contains(o.output, "wrong") {
		t.Errorf("%+v", o)
	}
	var silent reading
	if o := silent.outcome(nil); o.green() {
		t.Error("a run without any test is green")
	}
}
