package api_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/crm"
	"github.com/tandemhq/tandem/internal/tandemtest"
	"github.com/tandemhq/tandem/team"
)

// Whatever a page names is given along once, whichever of its records name it; nothing of what the reader may not see.
func TestInclude(t *testing.T) {
	t.Parallel()
	h := tandemtest.Start(t, nil)
	o, other := h.NewOrg("ours"), h.NewOrg("theirs")
	h.In(o.ID, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `
			WITH a AS (INSERT INTO accounts (org_id, id, name, archived_at) SELECT $1, gen_random_uuid(), 'Company ' || i, CASE WHEN i = 700 THEN now() END FROM generate_series(1, 700) i RETURNING id, name)
			INSERT INTO contacts (org_id, id, name, account_id) SELECT $1, gen_random_uuid(), 'Somebody of ' || name || k, id FROM a, generate_series(1, 2) k`, o.ID)
		return err
	})
	var got struct {
		Items    []crm.Contact
		Next     string
		Included struct{ Account map[tandem.ID]crm.Account }
	}
	h.Want(http.StatusOK, http.MethodGet, "/api/v1/contacts?include=account&limit=1000", o.Key, nil).Into(t, &got)
	archived := 0
	for _, c := range got.Items {
		a, ok := got.Included.Account[*c.AccountID]
		if !ok {
			archived++
		} else if a.ID != *c.AccountID || !strings.HasPrefix(c.Name, "Somebody of "+a.Name) {
			t.Fatalf("%+v is given along for %+v", a, c)
		}
	}
	if len(got.Items) != 1000 || len(got.Included.Account) < 500 || archived > 2 {
		t.Errorf("%d contacts, %d accounts, %d contacts without one", len(got.Items), len(got.Included.Account), archived)
	}
	var narrow string
	h.In(o.ID, func(ctx context.Context, tx pgx.Tx) (err error) {
		narrow, _, err = team.CreateKey(ctx, tx, "narrow", o.Owner.ID, []string{"contact:read"})
		return err
	})
	h.Want(http.StatusOK, http.MethodGet, "/api/v1/contacts?limit=1", narrow, nil)
	if a := h.Do(http.MethodGet, "/api/v1/contacts?limit=1&include=account", narrow, nil); a.Status != http.StatusForbidden || !strings.Contains(string(a.Body), "account:read") {
		t.Errorf("accounts without their permission: %d %s", a.Status, a.Body)
	}
	var none struct{ Included map[string]any }
	h.Want(http.StatusOK, http.MethodGet, "/api/v1/contacts?include=account", other.Key, nil).Into(t, &none)
	if fmt.Sprint(none.Included) != "map[account:map[]]" {
		t.Errorf("another organization is given %v", none.Included)
	}
}
