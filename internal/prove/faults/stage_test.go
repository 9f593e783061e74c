//go:build prove

package faults

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tandemhq/tandem/internal/proof"
	"github.com/tandemhq/tandem/internal/prove"
	"github.com/tandemhq/tandem/internal/prove/oracle"
)

func TestMain(m *testing.M) {
	code := m.Run()
	prove.CleanUp()
	os.Exit(code)
}

// drain bounds the wait until everybody is answered after the last fault.
const drain = 90 * time.Second

// stage is a site under load, whose answers go to the oracle.
type stage struct {
	t      *testing.T
	site   *prove.Site
	oracle oracle.Client
	driver *prove.Driver
	p      *prove.Process
}

// newStage makes a site whose form is answered by a model in another process and whose answers leave for a receiver in
// another process. Nothing of it runs yet.
func newStage(t *testing.T, o prove.SiteOptions) *stage {
	t.Helper()
	s := &stage{t: t, oracle: prove.NewOracle(t), site: prove.NewSite(t, o)}
	s.site.AddModel(s.oracle.Addresses.Model)
	s.site.ReplyTo(s.oracle.Webhook+"/replies", "")
	s.driver = prove.NewDriver(s.site, s.oracle)
	return s
}

// lease is short, so that a turn whose worker died is soon taken up again.
const lease = "2s"

// serve starts the process and returns how long it took to be ready.
func (s *stage) serve() time.Duration {
	s.t.Helper()
	s.p = s.site.Begin("--lease", lease)
	return s.p.WaitReady(prove.Patience)
}

// load begins traffic that goes on until the driver ends: about rate leads a second by 8 people.
func (s *stage) load(rate int) {
	s.t.Helper()
	const people = 8
	s.driver.Begin(s.t, prove.Traffic{Forms: people, FormMessages: 1 << 30, FormEvery: people * time.Second / time.Duration(rate)})
}

// settle ends the load and waits until everybody is answered. It returns how long that took.
func (s *stage) settle() time.Duration {
	s.t.Helper()
	s.driver.End()
	return s.drained()
}

func (s *stage) drained() time.Duration {
	s.t.Helper()
	began := time.Now()
	conn := s.site.DB(s.t)
	prove.Until(s.t, drain, "everybody is answered", func() bool {
		time.Sleep(100 * time.Millisecond) // the question loads the machine that we wait for
		b, err := prove.ReadBooks(s.t.Context(), conn)
		if err != nil {
			s.t.Fatal(err)
		}
		return b.Drained()
	})
	return time.Since(began)
}

// verdict compares the journals and fails the test on anything that is not as promised.
func (s *stage) verdict() prove.Verdict {
	s.t.Helper()
	v := s.compare()
	if wrong := v.Wrong(); len(wrong) > 0 {
		s.t.Errorf("%s", strings.Join(wrong, "\n"))
	}
	if refused := s.driver.Refused(); len(refused) > 0 {
		s.t.Errorf("%d refused, such as %s", len(refused), refused[0])
	}
	if n := s.driver.Statuses()[http.StatusInternalServerError]; n > 0 {
		s.t.Errorf("%d answers were 500", n)
	}
	if v.Accepted == 0 {
		s.t.Error("nothing was accepted: the test shows nothing")
	}
	return v
}

func (s *stage) compare() prove.Verdict {
	s.t.Helper()
	b, err := prove.ReadBooks(s.t.Context(), s.site.DB(s.t))
	if err != nil {
		s.t.Fatal(err)
	}
	seen, err := s.oracle.Journal(s.t.Context(), 0, "", "")
	if err != nil {
		s.t.Fatal(err)
	}
	return prove.Check(s.driver.Accepted(), b, seen)
}

// figure is the part of a figure that all scenarios share.
func figure(v prove.Verdict, d *prove.Driver) string {
	return fmt.Sprintf("%d messages accepted (%d sends repeated), %d answers: %d lost, %d rows doubled, %d effects doubled, %d out of order, %d unknown",
		v.Accepted, d.Repeated(), v.Answers, len(v.Lost), len(v.DoubledRows), len(v.DoubledEffect), len(v.Disordered), len(v.Unknown))
}

// metric reads one number from /metrics.
func (s *stage) metric(name string) (float64, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.p.URL+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	req.Header.Set("X-API-Key", s.site.APIKey)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, err
	}
	m := regexp.MustCompile(`(?m)^` + name + ` (\S+)$`).FindSubmatch(text)
	if m == nil {
		return 0, fmt.Errorf("%s: no %s in the metrics", res.Status, name)
	}
	return strconv.ParseFloat(string(m[1]), 64)
}

// postmaster is the process id of the private PostgreSQL, 0 when there is none.
func (s *stage) postmaster() int {
	text, err := os.ReadFile(filepath.Join(s.site.Dir, "postgres", "data", "postmaster.pid"))
	if err != nil {
		return 0
	}
	pid, _ := strconv.Atoi(strings.SplitN(string(text), "\n", 2)[0])
	if syscall.Kill(pid, 0) != nil {
		return 0
	}
	return pid
}

// family is a process and its children.
func family(pid int) []int {
	all := []int{pid}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range stats {
		b, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
		if len(fields) > 1 && fields[1] == strconv.Itoa(pid) {
			child, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			all = append(all, child)
		}
	}
	return all
}

// killPostgres is kill -9 of PostgreSQL and all its backends, like the kernel does it when memory is short.
func (s *stage) killPostgres() {
	s.t.Helper()
	pid := s.postmaster()
	if pid == 0 {
		s.t.Fatal("PostgreSQL does not run")
	}
	for _, p := range family(pid) {
		_ = syscall.Kill(p, syscall.SIGKILL) // one that has just ended is what we want
	}
}

// signalPostgres sends a signal to PostgreSQL and all its backends.
func (s *stage) signalPostgres(sig syscall.Signal) {
	s.t.Helper()
	pid := s.postmaster()
	if pid == 0 {
		s.t.Fatal("PostgreSQL does not run")
	}
	for _, p := range family(pid) {
		_ = syscall.Kill(p, sig)
	}
}

// needRoot skips where a test cannot mount or signal what belongs to another account.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("this needs root: it mounts file systems and signals PostgreSQL's account")
	}
}

// took logs how long a scenario took, for whoever plans `make prove`.
func took(t *testing.T) {
	began := time.Now()
	t.Cleanup(func() { t.Logf("took %.0f s", time.Since(began).Seconds()) })
}

// percentile of times, which it sorts.
func percentile(times []time.Duration, p int) time.Duration {
	if len(times) == 0 {
		return 0
	}
	slices.Sort(times)
	return times[min(len(times)*p/100, len(times)-1)]
}

// held logs a goal's figure as held or missed.
func held(t *testing.T, ok bool, goal, format string, args ...any) {
	t.Helper()
	if ok {
		proof.Figure(t, goal, format, args...)
	} else {
		proof.Missed(t, goal, format, args...)
	}
}
