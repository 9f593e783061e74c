package api_test

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"github.com/tandemhq/tandem/crm"
	"github.com/tandemhq/tandem/internal/tandemtest"
)

// sample is what the tests write of a record: a body that makes one, one that changes it, and one that is wrong. In all of
// them FOREIGN is another organization's id, and {name} an id of the test's own world.
type sample struct{ create, patch, wrong string }

// samples has one of every kind of record that crm lists; one that is missing fails the tests. Those without a create are
// made by a scenario of their own.
var samples = map[string]sample{
	"account":      {`{"name":"Analytical Engines","domain":"engines.example.com","tags":["a","b"]}`, `{"industry":"Computing"}`, `{"name":""}`},
	"contact":      {`{"name":"Charles Babbage","email":"charles@example.com","phone":"+44 20 7946 0000","title":"Inventor","language":"en-GB","timezone":"Europe/London","city":"London","country":"gb"}`, `{"company":"Engines"}`, `{"name":"x","email":"nobody"}`},
	"lead":         {`{"contact_id":"{contact}","title":"An engine","value":{"minor":500000,"currency":"GBP"},"temperature":"warm"}`, `{"priority":"high"}`, `{"contact_id":"{contact}","priority":"soon"}`},
	"note":         {`{"lead_id":"{lead}","body":"She **knows** engines.","mentions":["{colleague}"]}`, `{"pinned":true}`, `{"body":"About nothing"}`},
	"task":         {`{"title":"Call her back","lead_id":"{lead}","assignee_id":"{colleague}","due_at":"2100-12-01T09:00:00Z","remind_at":"2100-12-01T08:00:00Z"}`, `{"status":"in_progress"}`, `{"title":""}`},
	"call":         {`{"lead_id":"{lead}","direction":"outbound","outcome":"connected","started_at":"2026-11-30T15:04:05Z","duration_seconds":240}`, `{"notes":"She wants two racks"}`, `{"lead_id":"{lead}","direction":"outbound","outcome":"connected","started_at":"2026-11-30T15:04:05Z","recording_url":"http://example.com"}`},
	"lead_source":  {`{"name":"Trade fair","kind":"other","channel_id":"{chat}","cost_minor":1250,"currency":"EUR"}`, `{"active":false}`, `{"name":"Trade fair","kind":"other","cost_minor":1}`},
	"tag":          {`{"name":"VIP","record_type":"lead","color":"#2F6FED"}`, `{"color":null}`, `{"name":"VIP","record_type":"task"}`},
	"custom_field": {`{"record_type":"account","key":"plan","label":"Plan","type":"select","options":[{"value":"pro","label":"Professional","color":"#2f6fed"},{"value":"free"}],"default_value":"free","ai_may_write":true}`, `{"label":"Tariff","options":[{"value":"pro"},{"value":"free"},{"value":"basic"}]}`, `{"record_type":"account","key":"Plan","label":"Plan","type":"select"}`},
	"saved_view":   {`{"name":"Hot leads","record_type":"lead","query":{"filter":{"temperature":"hot"},"where":{"or":[{"field":"assignee_id","value":"{colleague}"},{"field":"value","op":"gte","value":"100000"}]},"sort":"-value","fields":["title","value"]},"shared":true,"position":1}`, `{"query":{"filter":{"contact_id":"{contact}"}}}`, `{"name":"Hot leads","record_type":"lead","query":{"sort":"nonsense"}}`},
	"deal":         {`{"name":"Two racks","contact_id":"{contact}","contact_ids":["{contact}"],"lead_id":"{lead}","amount":{"minor":125000,"currency":"EUR"},"probability":35,"expected_close":"2100-12-31","forecast_category":"commit","tags":["b2b"]}`, `{"amount":{"minor":250000,"currency":"EUR"},"probability":null}`, `{"name":"Two racks","expected_close":"soon","forecast_category":"closed","amount":{"minor":-1,"currency":"EUR"}}`},
	"board":        {`{"name":"Partners","stages":[{"name":"Talk","exit_criteria":["They have a budget"]},{"name":"Signed","kind":"won"}]}`, `{"name":"Resellers"}`, `{"name":"Partners","stages":[{"name":"Signed","kind":"won"}]}`},
	"stage":        {`{"board_id":"{board}","name":"Trial","position":1,"probability":30,"color":"#2F6FED"}`, `{"exit_criteria":["The trial has ended","Somebody decides"]}`, `{"board_id":"{board}","name":"Trial","kind":"won","probability":30}`},
	"document":     {``, `{"category":"contract"}`, ``},
}

// recordScenarios are what every kind of record has to do.
func recordScenarios() (all []scenario) {
	for _, r := range crm.All {
		sm, op := samples[r.Noun], strings.TrimPrefix(r.Path, "/")
		add := func(s scenario) { all = append(all, s) }
		list, one := "get-"+op, "get-"+op+"-id"
		if sm.create != "" {
			add(scenario{op: "post-" + op, key: "viewer", body: sm.create, status: 403})
			add(scenario{op: "post-" + op, body: sm.wrong, status: 422, has: []string{`"errors":[`}})
			add(scenario{op: "post-" + op, body: `{"no such field":1}`, status: 422})
			add(scenario{op: "post-" + op, body: `[]`, status: 422})
			add(scenario{op: "post-" + op, body: sm.create, header: []string{"Idempotency-Key", "make " + r.Noun}, status: 201, event: r.Noun + ".created", keep: r.Noun})
			add(scenario{op: "post-" + op, body: sm.create, header: []string{"Idempotency-Key", "make " + r.Noun}, status: 201, has: []string{`"id":"{` + r.Noun + `}"`}})
			add(scenario{op: "post-" + op, body: sm.patch, header: []string{"Idempotency-Key", "make " + r.Noun}, status: 422, has: []string{`"field":"Idempotency-Key"`}})
		}
		add(scenario{op: list, status: 200, has: []string{`"id":"{` + r.Noun + `}"`}})
		add(scenario{op: list, query: "?total=true&limit=1&fields=id", status: 200, has: []string{`"total":`}})
		add(scenario{op: list, query: "?sort=created_at&limit=1000", status: 200})
		add(scenario{op: list, query: "?sort=nonsense", status: 422, has: []string{`"field":"sort"`}})
		add(scenario{op: list, query: "?filter[nonsense]=1", status: 422, has: []string{`"field":"nonsense"`}})
		add(scenario{op: list, query: "?where=nonsense", status: 422, has: []string{`"field":"where"`}})
		add(scenario{op: list, query: "?where=%7B%22or%22:%5B%7B%22field%22:%22created_at%22,%22op%22:%22gt%22,%22value%22:%222020-01-01T00:00:00Z%22%7D%5D%7D", status: 200, has: []string{`"id":"{` + r.Noun + `}"`}})
		add(scenario{op: list, query: "?filter[created_at][lt]=2020-01-01T00:00:00Z", status: 200, has: []string{`"items":[]`}})
		add(scenario{op: list, query: "?fields=nonsense", status: 422, has: []string{`"field":"fields"`}})
		add(scenario{op: one, id: r.Noun, status: 200})
		add(scenario{op: one, id: "nobody", status: 404})
		add(scenario{op: one, id: "nonsense", status: 404})
		add(scenario{op: "patch-" + op + "-id", id: r.Noun, key: "viewer", body: sm.patch, status: 403})
		add(scenario{op: "patch-" + op + "-id", id: r.Noun, body: `{"id":"{nobody}"}`, status: 422, has: []string{`"field":"id"`}})
		add(scenario{op: "patch-" + op + "-id", id: r.Noun, body: sm.patch, header: []string{"If-Match", `"99"`}, status: 409})
		add(scenario{op: "patch-" + op + "-id", id: r.Noun, body: sm.patch, header: []string{"If-Match", `"1"`}, status: 200, event: r.Noun + ".updated", has: []string{`"version":2`}})
		add(scenario{op: "patch-" + op + "-id", id: "nobody", body: sm.patch, status: 404})
		add(scenario{op: "post-" + op + "-bulk", body: `{"ids":["{` + r.Noun + `}","{nobody}"],"patch":{"id":1}}`, status: 200, has: []string{`"status":422`}})
		add(scenario{op: "post-" + op + "-bulk", body: `{"ids":["{` + r.Noun + `}","{nobody}"],"patch":` + sm.patch + `}`, status: 200, has: []string{`"status":200`, `"status":404`}})
		add(scenario{op: "post-" + op + "-bulk", body: `{"ids":["{` + r.Noun + `}"]}`, status: 422})
		if r.Archive == nil {
			continue
		}
		add(scenario{op: "delete-" + op + "-id", id: r.Noun, header: []string{"If-Match", `"1"`}, status: 409})
		add(scenario{op: "delete-" + op + "-id", id: r.Noun, status: 204, event: r.Noun + ".archived"})
		add(scenario{op: "delete-" + op + "-id", id: r.Noun, status: 404})
		add(scenario{op: one, id: r.Noun, status: 404})
		add(scenario{op: "post-" + op + "-id-restore", id: "nobody", status: 404})
		add(scenario{op: "post-" + op + "-id-restore", id: r.Noun, status: 200, event: r.Noun + ".restored"})
		add(scenario{op: "post-" + op + "-bulk", body: `{"ids":["{` + r.Noun + `}"],"archive":true}`, status: 200, event: r.Noun + ".archived", has: []string{`"status":204`}})
		add(scenario{op: "post-" + op + "-id-restore", id: r.Noun, status: 200, event: r.Noun + ".restored"})
	}
	return all
}

// recordBodies are the bodies of the records' routes for the matrix.
func recordBodies() map[string]string {
	all := maps.Clone(bodies)
	for _, r := range crm.All {
		sm, op := samples[r.Noun], strings.TrimPrefix(r.Path, "/")
		fill := func(s string) string { return foreignNames.Replace(s) }
		all["get-"+op], all["get-"+op+"-id"] = "", ""
		if sm.create != "" {
			all["post-"+op] = fill(sm.create)
		}
		all["patch-"+op+"-id"], all["post-"+op+"-bulk"] = fill(sm.patch), `{"ids":["FOREIGN"],"patch":`+fill(sm.patch)+`}`
		if r.Archive != nil {
			all["delete-"+op+"-id"], all["post-"+op+"-id-restore"] = "", ""
		}
	}
	return all
}

// foreignNames aims a sample at another organization.
var foreignNames = strings.NewReplacer("{contact}", "FOREIGN", "{lead}", "FOREIGN", "{account}", "FOREIGN", "{colleague}", "FOREIGN", "{board}", "FOREIGN", "{stage}", "FOREIGN", "{conversation}", "FOREIGN", "{chat}", "FOREIGN")

// A POST under a key is answered the same again, to the last digit; a key that is too long is refused before anything is
// done.
func TestTheSameAnswerAgain(t *testing.T) {
	t.Parallel()
	h := tandemtest.Start(t, nil)
	o := h.NewOrg("again")
	var contact struct{ ID string }
	h.Want(http.StatusCreated, http.MethodPost, "/api/v1/contacts", o.Key, `{"name":"Ada"}`).Into(t, &contact)
	body := `{"contact_id":"` + contact.ID + `","title":"A big one","value":{"minor":9007199254740993,"currency":"EUR"}}`
	first := h.Want(http.StatusCreated, http.MethodPost, "/api/v1/leads", o.Key, body, "Idempotency-Key", "big")
	again := h.Want(http.StatusCreated, http.MethodPost, "/api/v1/leads", o.Key, body, "Idempotency-Key", "big")
	var was, is any
	for b, to := range map[*tandemtest.Answer]*any{&first: &was, &again: &is} {
		d := json.NewDecoder(bytes.NewReader(b.Body))
		d.UseNumber()
		if err := d.Decode(to); err != nil {
			t.Fatal(err)
		}
	}
	if !reflect.DeepEqual(was, is) || first.Header.Get("ETag") == "" || first.Header.Get("ETag") != again.Header.Get("ETag") {
		t.Errorf("first %s %s\nagain %s %s", first.Header.Get("ETag"), first.Body, again.Header.Get("ETag"), again.Body)
	}
	long := h.Do(http.MethodPost, "/api/v1/contacts", o.Key, `{"name":"Grace"}`, "Idempotency-Key", strings.Repeat("k", 201))
	if long.Status != http.StatusUnprocessableEntity || !strings.Contains(string(long.Body), `"field":"Idempotency-Key"`) {
		t.Errorf("a key of 201 characters: %d %s", long.Status, long.Body)
	}
	if got := h.Want(http.StatusOK, http.MethodGet, "/api/v1/contacts?search=Grace", o.Key, nil); strings.Contains(string(got.Body), "Grace") {
		t.Errorf("a refused request added a contact: %s", got.Body)
	}
}
