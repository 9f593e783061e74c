package crm_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/crm"
)

func TestCalls(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	lead, _ := h.lead(crm.NewLead{Contact: h.contact("ada@example.com", "Ada").ID})
	other := addOrg(t, h.db, "other")
	call := func(more string) string {
		return fmt.Sprintf(`{"lead_id":%q,"direction":"outbound","outcome":"connected","started_at":"2026-11-30T15:04:05Z"%s}`, lead.ID, more)
	}
	c, err := add(h, crm.Calls, call(`,"duration_seconds":240,"recording_url":"https://recordings.example.com/4711?token=x","notes":"She wants two racks."`))
	if err != nil {
		t.Fatal(err)
	}
	if tandem.Deref(c.MemberID) != h.sam.ID || c.DurationSeconds != 240 || c.Outcome != "connected" || c.StartedAt.Format("15:04:05") != "15:04:05" {
		t.Errorf("call %+v", c)
	}
	if c, err := add(h, crm.Calls, call(`,"member_id":"`+string(h.ava.ID)+`"`)); err != nil || tandem.Deref(c.MemberID) != h.ava.ID {
		t.Errorf("the AI member's call: %+v, %v", c, err)
	}
	const about = "SELECT count(*) FROM events WHERE noun = 'call' AND verb = 'created' AND lead_id = $1"
	if n, told := h.count(about, lead.ID), h.count(about+" AND (changes::text LIKE '%token%' OR changes::text LIKE '%racks%')", lead.ID); n != 2 || told != 0 {
		t.Errorf("%d events of the lead, %d with the recording or the notes; want 2 and 0", n, told)
	}
	for name, more := range map[string]string{
		"two records": `,"contact_id":"` + string(lead.ContactID) + `"`, "another's member": `,"member_id":"` + string(other.sam.ID) + `"`, "no secure address": `,"recording_url":"http://example.com/x"`,
		"a script": `,"recording_url":"javascript:alert(1)"`, "no host": `,"recording_url":"https:///x"`, "a password": `,"recording_url":"https://a:b@example.com"`, "a negative time": `,"duration_seconds":-1`,
		"a month": `,"duration_seconds":2600000`, "long notes": `,"notes":"` + strings.Repeat("x", 20_001) + `"`,
	} {
		_, err := add(h, crm.Calls, call(more))
		want(t, err, tandem.Invalid, name)
	}
	for name, body := range map[string]string{
		"nothing": `{}`, "a direction": `{"lead_id":"` + string(lead.ID) + `","direction":"up","outcome":"busy","started_at":"2026-11-30T15:04:05Z"}`,
		"no time": `{"lead_id":"` + string(lead.ID) + `","direction":"inbound","outcome":"busy","started_at":"soon"}`, "no record": `{"direction":"inbound","outcome":"busy","started_at":"2026-11-30T15:04:05Z"}`,
	} {
		_, err := add(h, crm.Calls, body)
		want(t, err, tandem.Invalid, name)
	}
	patch := func(body string) error {
		return h.try(h.human, func(ctx context.Context, tx pgx.Tx) error {
			_, err := crm.Calls.Patch(ctx, tx, c.ID, []byte(body), nil)
			return err
		})
	}
	if err := patch(`{"outcome":"voicemail","recording_url":null}`); err != nil {
		t.Error(err)
	}
	for _, body := range []string{`{"outcome":"maybe"}`, `{"direction":"inbound"}`, `{"lead_id":null}`, `{"member_id":null}`} {
		want(t, patch(body), tandem.Invalid, body)
	}
}
