package team

import (
	"maps"
	"slices"
	"strings"
)

// records are the kinds of record that crm lists: each may be read and written.
var records = []string{
	"account",
	"board",
	"call",
	"contact",
	"custom_field",
	"deal",
	"document",
	"lead",
	"lead_source",
	"note",
	"saved_view",
	"stage",
	"tag",
	"task",
}

// Permissions lists every permission there is, sorted.
var Permissions = permissions(
	"channel:read", "channel:write",
	"conversation:claim", "conversation:read", "conversation:reply", "conversation:takeover",
	"dead_letter:read", "dead_letter:write",
	"handoff:decide", "handoff:request",
	"inbound:write",
	"knowledge:read", "knowledge:write",
	"member:read", "member:write",
	"report:read",
	"run:read",
)

// permissions are all of them: those of records, and the others.
func permissions(all ...string) []string {
	for _, noun := range records {
		all = append(all, noun+":read", noun+":write")
	}
	slices.Sort(all)
	return all
}

// Roles by name. What a role may do is fixed; what an API key may do is its member's
// role cut down to the key's scopes.
const (
	Owner  = "owner"
	Admin  = "admin"
	Agent  = "agent"
	Viewer = "viewer"
	AIRole = "ai"
)

var roles = map[string]map[string]bool{
	Owner: only(func(string) bool { return true }),
	Admin: only(func(string) bool { return true }),
	Agent: only(func(p string) bool {
		return !slices.Contains([]string{"member:write", "channel:write", "dead_letter:write", "custom_field:write"}, p)
	}),
	Viewer: only(func(p string) bool { return strings.HasSuffix(p, ":read") }),
	AIRole: only(func(p string) bool {
		return slices.Contains([]string{
			"conversation:read", "conversation:reply", "conversation:claim", "handoff:request", "contact:read",
			"custom_field:read", "lead:read", "lead:write", "knowledge:read", "member:read", "board:read", "stage:read", "deal:read",
			"account:read", "call:read", "lead_source:read", "note:read", "note:write", "tag:read", "task:read", "task:write",
		}, p)
	}),
}

func only(may func(string) bool) map[string]bool {
	m := map[string]bool{}
	for _, p := range Permissions {
		if may(p) {
			m[p] = true
		}
	}
	return m
}

// Grants returns the permissions of a role; an unknown role has none. The map is the caller's own.
func Grants(role string) map[string]bool {
	if g := maps.Clone(roles[role]); g != nil {
		return g
	}
	return map[string]bool{}
}

// scoped cuts a role's permissions down to scopes; no scopes means all of them.
func scoped(role string, scopes []string) map[string]bool {
	g := Grants(role)
	if len(scopes) > 0 {
		maps.DeleteFunc(g, func(p string, _ bool) bool { return !slices.Contains(scopes, p) })
	}
	return g
}
