package agents

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem/internal/mutant"
)

// Guard checks what an AI member is about to say to a contact. Model output is untrusted: a text
// in the conversation may have told the model to draw a picture whose address carries what it
// knows, or to write another contact's phone number. The guard decides without a model.
type Guard struct {
	hosts map[string]bool // whose links may be sent
	own   string          // lower-case text of what is the contact's or the knowledge's
	digit string          // the digits of the same, in runs
}

// What stands where something was taken out.
const (
	linkRemoved   = "[link removed]"
	emailRemoved  = "[e-mail address removed]"
	numberRemoved = "[number removed]"
	idRemoved     = "[reference removed]"
)

const sqlOwn = `
SELECT o.name || ' ' || o.settings::text AS org, coalesce(o.settings->'link_hosts', '[]') AS hosts,
       concat_ws(' ', k.name, k.email, k.phone, k.company) AS contact,
       coalesce((SELECT string_agg(i.value, ' ') FROM contact_identities i
                 WHERE i.org_id = @org AND i.contact_id = @contact AND i.kind IN ('email', 'phone', 'whatsapp')), '') AS identities,
       coalesce((SELECT string_agg(m.text, ' ') FROM (SELECT text FROM messages WHERE org_id = @org AND conversation_id = @conversation
                 AND direction = 'inbound' ORDER BY seq DESC LIMIT 50) m), '') AS said
FROM organizations o JOIN contacts k ON k.org_id = o.id AND k.id = @contact
WHERE o.id = @org`

// GuardFor reads what the contact of t may be told: what the contact's own record and messages hold,
// what the organization's settings name, and what the knowledge found in this run says.
func GuardFor(ctx context.Context, tx pgx.Tx, t *Turn) (*Guard, error) {
	var org, contact, identities, said string
	var hosts []byte
	err := tx.QueryRow(ctx, sqlOwn, pgx.StrictNamedArgs{"org": t.Org, "contact": t.Contact, "conversation": t.Conversation}).
		Scan(&org, &hosts, &contact, &identities, &said)
	if err != nil {
		return nil, fmt.Errorf("read what the contact may be told: %w", err)
	}
	var names []string
	_ = json.Unmarshal(hosts, &names) // settings of another shape allow no host
	texts := []string{org, contact, identities, said}
	linked := []string{}
	for _, h := range t.Retrieved {
		texts = append(texts, h.Text, h.Title, h.URL)
		linked = append(linked, h.Text, h.URL)
	}
	return newGuard(names, linked, texts), nil
}

// newGuard allows links to hosts and to every host that linked texts link to, and repeats of texts.
func newGuard(hosts, linked, texts []string) *Guard {
	g := &Guard{hosts: map[string]bool{}}
	for _, h := range hosts {
		g.hosts[strings.ToLower(strings.TrimSpace(h))] = true
	}
	for _, text := range linked {
		for _, m := range anyURL.FindAllString(text, -1) {
			if h := hostOf(m); h != "" {
				g.hosts[h] = true
			}
		}
		for _, m := range bareHost.FindAllString(text, -1) {
			if h := hostOf("https://" + m); h != "" {
				g.hosts[h] = true
			}
		}
	}
	delete(g.hosts, "")
	g.own = strings.ToLower(strings.Join(texts, "\n"))
	g.digit = digits(strings.Join(texts, "\n"))
	return g
}

var (
	comment  = regexp.MustCompile(`(?s)<!--.*?(?:-->|$)`)
	rawBlock = regexp.MustCompile(`(?is)<(?:script|style)\b[^>]*>.*?(?:</(?:script|style)\s*>|$)`)
	tag      = regexp.MustCompile(`(?s)</?[a-zA-Z][^<>]*>|<[!?][^<>]*>`)
	openTag  = regexp.MustCompile(`<([a-zA-Z/!?])`)

	mdImage = regexp.MustCompile(`!\[([^\]]*)\]\s*(?:\([^)]*\)?|\[[^\]]*\])`)
	mdLink  = regexp.MustCompile(`\[([^\]]*)\]\s*\(\s*<?([^)\s>]*)[^)]*\)`)
	mdRef   = regexp.MustCompile(`(?m)^\s{0,3}\[[^\]]+\]:\s*\S+.*$`)
	anyURL  = regexp.MustCompile(`(?i)\b(?:[a-z][a-z0-9+.\-]{0,30}:[/\\]{2}|(?:https?|ftps?|wss?|file|data|javascript|vbscript|blob|mailto|tel|sms):)[^\s<>"']+|(?:^|[\s(])[/\\]{2}[a-z0-9][^\s<>"']+`)
	// bareHost is what mail and chat clients make a link of although no scheme stands before it.
	bareHost = regexp.MustCompile(`(?i)\b(?:[\p{L}\p{N}](?:[\p{L}\p{N}\-]{0,62})[.。．｡]){2,}(?:it|at|in|us|me|be)\b(?:[:/?#][^\s<>"']*)?|\b(?:[\p{L}\p{N}](?:[\p{L}\p{N}\-]{0,62})[.。．｡])+(?:com|net|org|io|co|ai|dev|app|info|biz|ru|cn|xyz|top|site|online|club|shop|store|live|link|click|tech|cloud|page|eu|uk|de|fr|nl|es|pl|ch|ca|au|jp|br|test|example|local|internal)\b(?:[:/?#][^\s<>"']*)?|\b(?:[\p{L}\p{N}](?:[\p{L}\p{N}\-]{0,62})[.。．｡])+[\p{L}]{2,24}[:/][^\s<>"']+|\b\d{1,3}(?:\.\d{1,3}){3}\b(?:[:/?][^\s<>"']*)?`)

	email  = regexp.MustCompile(`(?i)[\p{L}\p{N}._%+\-']+\s?(?:@|＠)\s?[\p{L}\p{N}\-]+(?:[.。．｡][\p{L}\p{N}\-]+)+`)
	uuid   = regexp.MustCompile(`(?i)\b[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}\b`)
	secret = regexp.MustCompile(`\b(?:tdm|sk|pk|rk|ghp|gho|xox[abprs]|whsec|AKIA|AIza)[_\-]?[A-Za-z0-9_\-]{14,}`)
	phone  = regexp.MustCompile(`\+?\(?\d[\d \t\x{a0}().\-/]{5,24}\d`)
	date   = regexp.MustCompile(`^(?:\d{4}[\-/.]\d{1,2}[\-/.]\d{1,2}|\d{1,2}[\-/.]\d{1,2}[\-/.]\d{4}|\d{4}\s?-\s?\d{4})$`)
)

// Clean returns text as it may be sent, and what was taken out of it, one reason each.
func (g *Guard) Clean(text string) (clean string, removed []string) {
	if mutant.Is("output-not-checked") {
		return text, nil
	}
	for range 4 { // what is left may have come to look like a link: look again until nothing is found
		var found []string
		if text, found = g.pass(text); len(found) == 0 {
			break
		}
		removed = append(removed, found...)
	}
	return text, removed
}

func (g *Guard) pass(text string) (clean string, removed []string) {
	drop := func(what string) { removed = append(removed, what) }
	text = visible(text)
	if t := plain(text); t != text {
		drop("HTML")
		text = t
	}
	text = replace(text, mdImage, func(m []string) string { drop("an image"); return m[1] })
	text = replace(text, mdRef, func([]string) string { drop("a link definition"); return "" })
	text = replace(text, mdLink, func(m []string) string {
		if g.hosts[hostOf(m[2])] {
			return m[0]
		}
		drop("a link to a host that is not allowed")
		return m[1]
	})
	text = replace(text, anyURL, func(m []string) string {
		if g.hosts[hostOf(m[0])] || g.ownAddress(m[0]) {
			return m[0]
		}
		drop("a link to a host that is not allowed")
		return lead(m[0]) + linkRemoved
	})
	text = replace(text, email, func(m []string) string {
		if strings.Contains(g.own, strings.ToLower(squeeze(m[0]))) {
			return m[0]
		}
		drop("an e-mail address that is not this contact's")
		return emailRemoved
	})
	text = g.bare(text, drop)
	text = replace(text, uuid, func(m []string) string {
		if strings.Contains(g.own, strings.ToLower(m[0])) {
			return m[0]
		}
		drop("an internal id")
		return idRemoved
	})
	text = replace(text, secret, func(m []string) string { drop("something like a key"); return idRemoved })
	text = replace(text, phone, func(m []string) string {
		d := digits(m[0])
		if len(d) < 8 || len(d) > 20 || date.MatchString(strings.TrimSpace(m[0])) || strings.Contains(g.digit, d) {
			return m[0]
		}
		drop("a number that is not this contact's")
		return numberRemoved
	})
	return strings.TrimSpace(text), removed
}

// bare handles addresses without a scheme; those inside of allowed links and e-mail addresses stay.
func (g *Guard) bare(text string, drop func(string)) string {
	var b strings.Builder
	last := 0
	for _, at := range bareHost.FindAllStringIndex(text, -1) {
		m := text[at[0]:at[1]]
		before := text[:at[0]]
		if strings.HasSuffix(before, "@") || strings.HasSuffix(before, "//") || strings.HasSuffix(before, "/") || strings.HasSuffix(before, "=") {
			continue // a part of something that was already decided
		}
		if i := strings.LastIndexAny(before, " \n\t("); strings.ContainsAny(before[i+1:], "@/") {
			continue
		}
		if g.hosts[hostOf("https://"+m)] {
			continue
		}
		b.WriteString(text[last:at[0]] + linkRemoved)
		last = at[1]
		drop("an address that is not allowed")
	}
	return b.String() + text[last:]
}

func (g *Guard) ownAddress(link string) bool {
	scheme, rest, _ := strings.Cut(strings.ToLower(link), ":")
	if scheme != "mailto" && scheme != "tel" && scheme != "sms" || strings.ContainsAny(rest, "?&") || rest == "" {
		return false
	}
	return strings.Contains(g.own, rest) || len(digits(rest)) >= 8 && strings.Contains(g.digit, digits(rest))
}

// plain removes markup until none is left, so that removing cannot build new markup.
func plain(text string) string {
	for range 10 {
		before := text
		text = comment.ReplaceAllString(text, "")
		text = rawBlock.ReplaceAllString(text, "")
		text = tag.ReplaceAllString(text, "")
		if text == before {
			break
		}
	}
	return openTag.ReplaceAllString(text, "< $1")
}

// visible drops characters that a reader does not see and that could split what a rule looks for.
func visible(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return r
		case r < 0x20, r >= 0x7f && r < 0xa0, r == 0xad, r >= 0x200b && r <= 0x200f && r != 0x200d,
			r >= 0x202a && r <= 0x202e, r >= 0x2060 && r <= 0x206f, r == 0xfeff, r >= 0xe0000 && r <= 0xe0fff:
			return -1
		}
		return r
	}, text)
}

// hostOf returns the host that a browser would go to, lower case and without a port; empty for
// everything that is not plain http or https to a named host.
func hostOf(link string) string {
	link = strings.TrimRight(strings.TrimSpace(link), ".,;:!?)]}'\"*_")
	if strings.ContainsAny(link, "\\\t@") {
		return ""
	}
	u, err := url.Parse(link)
	if err != nil || u.User != nil || (u.Scheme != "https" && u.Scheme != "http") {
		return ""
	}
	h := strings.ToLower(u.Hostname())
	for _, r := range h {
		if r > 0x7e {
			return "" // look-alike letters: an allowed host is compared in plain ASCII
		}
	}
	return h
}

func replace(text string, re *regexp.Regexp, f func(m []string) string) string {
	return re.ReplaceAllStringFunc(text, func(s string) string { return f(re.FindStringSubmatch(s)) })
}

func lead(s string) string {
	if s != "" && strings.ContainsAny(s[:1], " \n\t(") {
		return s[:1]
	}
	return ""
}

func squeeze(s string) string { return strings.Join(strings.Fields(s), "") }

// digits keeps the digits of s, and a space where a letter parts two numbers.
func digits(s string) string {
	var b strings.Builder
	gap := false
	for _, r := range s {
		switch {
		case r >= '0' && r <= '9':
			if gap && b.Len() > 0 {
				b.WriteByte(' ')
			}
			gap = false
			b.WriteRune(r)
		case strings.ContainsRune(" \t\u00a0().-/+", r):
		default:
			gap = true
		}
	}
	return b.String()
}
