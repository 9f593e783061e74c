package api_test

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/proof"
	"github.com/tandemhq/tandem/internal/tandemtest"
	"github.com/tandemhq/tandem/team"
)

// caller is one who asks: a member with a role, by a key that may be cut down to scopes.
type caller struct {
	name, key, role string
	scopes          []string
}

// Operations without a permission of their own, each because it is about the caller alone.
var withoutPermission = map[string]string{
	"post-auth-login":  "public",    // nobody is signed in yet
	"post-auth-logout": "signed-in", // ends one's own session
	"get-me":           "signed-in", // says who one is

	"get-notifications":           "signed-in", // these are one's own
	"get-notifications-counts":    "signed-in",
	"post-notifications-id-read":  "signed-in",
	"post-notifications-read-all": "signed-in",
}

const rolesFile = "testdata/roles.txt"

// SEC-4: which role may call which operation, people, AI members and external ones, stands in testdata/roles.txt, and
// every cell of it is tried: "-" lacks the permission, "rule" has it and is refused all the same. `go test ./api -run TestRolesAndRoutes -update` writes it anew; read what has changed.
func TestRolesAndRoutes(t *testing.T) {
	t.Parallel()
	h := tandemtest.Start(t, nil)
	c := newContract(t, h)
	o := h.NewOrg("roles")
	callers := everyRole(h, o)
	bodies := recordBodies()
	var table strings.Builder
	row := func(cells ...string) {
		fmt.Fprintf(&table, "%-36s %-21s", cells[0], cells[1])
		for _, cell := range cells[2:] {
			fmt.Fprintf(&table, " %-14s", cell)
		}
		s := strings.TrimRight(table.String(), " ")
		table.Reset()
		table.WriteString(s + "\n")
	}
	head := []string{"operation", "permission"}
	for _, who := range callers {
		head = append(head, who.name)
	}
	row(head...)
	cells := 0
	for _, id := range slices.Sorted(maps.Keys(c.ops)) {
		op := c.ops[id]
		permission, _ := op.Extensions["x-permission"].(string)
		if !slices.Contains(team.Permissions, permission) && (permission == "" || withoutPermission[id] != permission) {
			t.Errorf("%s needs %q, which is no permission, and it is not on the list of those without one", id, permission)
		}
		if withoutPermission[id] != "" && withoutPermission[id] != permission {
			t.Errorf("%s is on the list of operations without a permission and has %s", id, permission)
		}
		line := []string{id, permission}
		for _, who := range callers {
			granted := team.Grants(who.role)[permission] && (who.scopes == nil || slices.Contains(who.scopes, permission))
			may := withoutPermission[id] != "" || granted
			nobody := string(tandem.NewID())
			target := strings.ReplaceAll(aimed(op.path, nobody)+queries[id], "FOREIGN", nobody)
			if slices.Contains(streams, id) {
				target += "?last_event_id=x" // refused after the permission is looked at, before the stream begins
			}
			a := h.Do(op.method, target, who.key, orNil(strings.ReplaceAll(bodies[id], "FOREIGN", nobody)))
			cells++
			cell := "yes"
			switch refused := a.Status == http.StatusForbidden; {
			case !may:
				cell = "-"
				if !refused || !strings.Contains(string(a.Body), permission) {
					t.Errorf("%s as %s, who has not %s: status %d, want a 403 that names it: %s", id, who.name, permission, a.Status, a.Body)
				}
			case refused:
				cell = "rule"
			}
			line = append(line, cell)
		}
		row(line...)
	}
	if *update {
		if err := os.WriteFile(rolesFile, []byte(table.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	kept, err := os.ReadFile(rolesFile)
	if err != nil {
		t.Fatal(err)
	}
	if string(kept) != table.String() {
		t.Errorf("api/%s is not what routes and roles say; if that is meant: go test ./api -run TestRolesAndRoutes -update\n%s", rolesFile, firstDifference(string(kept), table.String()))
	}
	proof.Figure(t, "SEC-4", "%d operations x %d kinds of callers, %d cells called: 0 differ from the reviewed table", len(c.ops), len(callers), cells)
}

// everyRole adds a member of each role and kind to the organization, each with a key.
func everyRole(h *tandemtest.Hub, o tandemtest.Org) []caller {
	callers := []caller{
		{name: "owner", role: team.Owner, key: o.Key},
		{name: "admin", role: team.Admin},
		{name: "agent", role: team.Agent},
		{name: "viewer", role: team.Viewer},
		{name: "ai", role: team.AIRole},
		{name: "external-ai", role: team.AIRole},
		{name: "external-agent", role: team.Agent},
		{name: "scoped-key", role: team.Owner, scopes: []string{"lead:read", "contact:read"}},
	}
	h.In(o.ID, func(ctx context.Context, tx pgx.Tx) (err error) {
		for i := range callers {
			who, member := &callers[i], o.Owner
			switch who.name {
			case "owner":
				continue
			case "ai":
				member = o.AI
			case "external-ai", "external-agent":
				member, err = team.AddExternal(ctx, tx, who.name, "", who.role)
			case "admin", "agent", "viewer":
				member, err = team.AddHuman(ctx, tx, team.NewHuman{Name: who.name, Email: who.name + "@example.com", Password: "a long enough password", Role: who.role})
			}
			if err != nil {
				return err
			}
			if who.key, _, err = team.CreateKey(ctx, tx, who.name, member.ID, who.scopes); err != nil {
				return err
			}
		}
		return nil
	})
	return callers
}

func firstDifference(was, is string) string {
	a, b := strings.Split(was, "\n"), strings.Split(is, "\n")
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return "kept: " + a[i] + "\nnow:  " + b[i]
		}
	}
	return "one is longer than the other"
}
