package api_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/tandemhq/tandem/crm"
	"github.com/tandemhq/tandem/internal/proof"
	"github.com/tandemhq/tandem/internal/tandemtest"
)

// SEC-5 over HTTP: whatever a list is asked for, in whatever spelling, is answered or refused.
func TestHostileLists(t *testing.T) {
	t.Parallel()
	h := tandemtest.Start(t, nil)
	w := newWorld(t, h)
	furnishOwn(t, h, w)
	for _, of := range []string{"lead", "contact", "account"} {
		for _, field := range []string{`"key":"seats","type":"number"`, `"key":"motto","type":"text"`, `"key":"due","type":"datetime"`, `"key":"needs","type":"multi_select","options":[{"value":"sso"}]`} {
			h.Want(http.StatusCreated, http.MethodPost, "/api/v1/custom-fields", w.Key, `{"record_type":"`+of+`","label":"A field",`+field+`}`)
		}
	}
	r := proof.Rand(t)
	of := func(all []string) string { return all[r.IntN(len(all))] }
	fields := []string{"custom.seats", "custom.motto", "custom.due", "custom.needs", "custom", "custom.", "custom.seats'", `custom."seats"`, "custom.seats; --", "created_at", "org_id", "name", "title", "value", "][", "\x00", "' OR 1=1 --"}
	ops := []string{"", "eq", "ne", "in", "lt", "gte", "has", "null", "or", "'", "]["}
	values := []string{"", "1", "-1.5", "1e9", "true", "sso", "%", `\`, "'", `"`, ";", "--", "\x00", "\xff", "2026-02-30", "2026-01-05T10:00:00Z", "infinity", "a,b", "$1", "@w0", "?", "pg_sleep(9)", strings.Repeat("9", 600), "🦊"}
	requests, statuses := proof.Size(600, 10_000), map[int]int{}
	for range requests {
		q := url.Values{}
		for range 1 + r.IntN(2) {
			key := "filter[" + of(fields) + "]"
			if op := of(ops); op != "" {
				key += "[" + op + "]"
			}
			q.Set(key, of(values))
		}
		switch r.IntN(4) {
		case 0:
			q = url.Values{"sort": {of([]string{"", "-", "+"}) + of(fields)}, "cursor": {of(values)}}
		case 1:
			q = url.Values{"sort": {of([]string{"", "-"}) + of(fields[:3])}}
		case 2:
			q = url.Values{"where": {`{"or":[{"field":"` + of(fields) + `","op":"` + of(ops) + `","value":"` + of(values) + `"}]}`}}
		}
		path := crm.All[r.IntN(len(crm.All))].Path + "?" + q.Encode()
		a := h.Do(http.MethodGet, "/api/v1"+path, w.Key, nil)
		if statuses[a.Status]++; a.Status >= http.StatusInternalServerError {
			t.Errorf("%s: %d %s", path, a.Status, a.Body)
		}
	}
	if statuses[http.StatusOK] == 0 || statuses[http.StatusUnprocessableEntity] == 0 {
		t.Errorf("the requests prove nothing: %v", statuses)
	}
	proof.Figure(t, "SEC-5", "%d hostile lists over HTTP: 0 failures; by status %v", requests, statuses)
}
