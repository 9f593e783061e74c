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
	hosts map[string]bool // to which any link may be sent
	links map[string]bool // addresses that may be sent exactly as they stand in the knowledge
	names map[string]bool // the hosts of links: they may be named, with no path that could carry anything
	own   string          // lower-case text of what is the contact's or the knowledge's
	digit string          // the digits of the same, in runs
	nonce string          // of the turn's borders
	runs  map[string]bool // words in a row that are not for customers
}

// What stands where something was taken out.
const (
	linkRemoved    = "[link removed]"
	emailRemoved   = "[e-mail address removed]"
	numberRemoved  = "[number removed]"
	idRemoved      = "[reference removed]"
	privateRemoved = "[private text removed]"
)

const sqlOwn = `
SELECT o.name || ' ' || o.settings::text AS org, coalesce(o.settings->'link_hosts', '[]') AS hosts,
       concat_ws(' ', k.name, k.email, k.phone, k.company) AS contact,
       coalesce((SELECT string_agg(i.value, ' ') FROM contact_identities i
                 WHERE i.org_id = @org AND i.contact_id = @contact AND i.kind IN ('email', 'phone', 'whatsapp')), '') AS identities,
       coalesce((SELECT string_agg(m.text, ' ') FROM (SELECT text FROM messages WHERE org_id = @org AND conversation_id = @conversation
                 AND direction = 'inbound' ORDER BY seq DESC LIMIT 50) m), '') AS said,
       coalesce((SELECT array_agg(m.text) FROM (SELECT left(text, 4000) AS text FROM messages WHERE org_id = @org AND conversation_id = @conversation
                 AND kind = 'note' ORDER BY seq DESC LIMIT 20) m), '{}') AS notes
FROM organizations o JOIN contacts k ON k.org_id = o.id AND k.id = @contact
WHERE o.id = @org`

// GuardFor reads what the contact of t may be told: what the contact's own record and messages hold,
// what the organization's settings name, and what the knowledge found in this run says.
func GuardFor(ctx context.Context, tx pgx.Tx, t *Turn) (*Guard, error) {
	var org, contact, identities, said string
	var hosts []byte
	var notes []string
	err := tx.QueryRow(ctx, sqlOwn, pgx.StrictNamedArgs{"org": t.Org, "contact": t.Contact, "conversation": t.Conversation}).
		Scan(&org, &hosts, &contact, &identities, &said, &notes)
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
	g := newGuard(names, linked, texts)
	g.nonce = t.nonce
	if len(notes) > 0 {
		g.runs = private(notes, g.own)
	}
	return g, nil
}

// newGuard allows links to hosts, the very links that stand in linked texts, and repeats of texts. A passage of the
// knowledge does not open its whole host: what a model adds to an address can carry what it knows.
func newGuard(hosts, linked, texts []string) *Guard {
	g := &Guard{hosts: map[string]bool{}, links: map[string]bool{}, names: map[string]bool{}, runs: ruleRuns}
	for _, h := range hosts {
		g.hosts[strings.ToLower(strings.TrimSpace(h))] = true
	}
	for _, text := range linked {
		for _, m := range anyURL.FindAllString(text, -1) {
			g.link(strings.TrimLeft(m, " \n\t("))
		}
		_ = bareAddresses(text, func(m string) string { g.link("https://" + m); return m })
	}
	delete(g.hosts, "")
	g.own = strings.ToLower(strings.Join(texts, "\n"))
	g.digit = digits(strings.Join(texts, "\n"))
	return g
}

func (g *Guard) link(address string) {
	if h := hostOf(address); h != "" {
		g.names[h], g.links[canonical(address)] = true, true
	}
}

// allowed reports whether a link may be sent.
func (g *Guard) allowed(link string) bool {
	h := hostOf(link)
	if h == "" {
		return false
	}
	c := canonical(link)
	return g.hosts[h] || g.links[c] || g.names[h] && c == h
}

// canonical is a link without its scheme, the case of its host, and what a sentence puts behind it.
func canonical(link string) string {
	link = strings.TrimRight(strings.TrimSpace(link), trailing)
	_, rest, _ := strings.Cut(link, "://")
	host := len(rest)
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		host = i
	}
	return strings.TrimRight(strings.ToLower(rest[:host])+rest[host:], "/")
}

var (
	comment  = regexp.MustCompile(`(?s)<!--.*?(?:-->|$)`)
	rawBlock = regexp.MustCompile(`(?is)<(?:script|style)\b[^>]*>.*?(?:</(?:script|style)\s*>|$)`)
	tag      = regexp.MustCompile(`(?s)</?[a-zA-Z][^<>]*>|<[!?][^<>]*>`)
	openTag  = regexp.MustCompile(`<([a-zA-Z/!?])`)

	mdImage  = regexp.MustCompile(`!\[([^\]]*)\]\s*(?:\([^)]*\)?|\[[^\]]*\])`)
	mdLink   = regexp.MustCompile(`\[([^\]]*)\]\s*\(\s*<?([^)\s>]*)[^)]*\)`)
	mdRef    = regexp.MustCompile(`(?m)^\s{0,3}\[[^\]\n]+\]:[ \t]*\n?[ \t]*\S+.*$`)
	mdRefUse = regexp.MustCompile(`\[([^\]\n]+)\]\[[^\]\n]*\]`)
	// anyURL is whatever begins with a scheme that some program on the reader's side opens.
	anyURL = regexp.MustCompile(`(?i)(?:[a-z][a-z0-9+.\-]{0,30}:[/\\]{2}|\b(?:https?|ftps?|wss?|file|data|javascript|vbscript|livescript|blob|filesystem|mailto|tel|sms|callto|facetime|sips?|skype|whatsapp|tg|signal|viber|line|xmpp|irc|slack|msteams|zoommtg|intent|market|itms|magnet|geo|maps|ssh|git|ldaps?|smb|news|nntp|feed|jar|cid|view-source|about|chrome|ms-[a-z]+|bitcoin|ethereum):)[^\s<>"']+|(?:^|[\s(])[/\\]{2}[a-z0-9][^\s<>"']+`)
	// bareHost is what mail and chat clients may make a link of although no scheme stands before it; isAddress decides.
	bareHost  = regexp.MustCompile(`(?:[\p{L}\p{N}_](?:[\p{L}\p{N}\p{M}_\-]{0,62})[.。．｡])+[\p{L}\p{N}](?:[\p{L}\p{N}\p{M}\-]{0,61}[\p{L}\p{N}])?`)
	pathAfter = regexp.MustCompile(`^[:/?#\\][^\s<>"']*`)

	email  = regexp.MustCompile(`(?i)[\p{L}\p{N}._%+\-']+\s?(?:@|＠)\s?[\p{L}\p{N}\-]+(?:[.。．｡][\p{L}\p{N}\-]+)+`)
	uuid   = regexp.MustCompile(`(?i)\b[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}\b`)
	secret = regexp.MustCompile(`\b(?:tdm|sk|pk|rk|gh[a-z]|github_pat|glpat|xox[a-z]|whsec|AKIA|AIza|eyJ)[_\-]?[A-Za-z0-9_\-.]{14,}|-----BEGIN [A-Z ]*KEY-----[^-]*(?:-----END [A-Z ]*KEY-----)?`)
	token  = regexp.MustCompile(`[A-Za-z0-9+/_\-]{24,}={0,2}`) // long enough for a key; noise decides
	phone  = regexp.MustCompile(`\+?\(?\d[\d \t\x{a0}().\-/]{5,24}\d`)
	date   = regexp.MustCompile(`^(?:\d{4}[\-/.]\d{1,2}[\-/.]\d{1,2}|\d{1,2}[\-/.]\d{1,2}[\-/.]\d{4}|\d{4}\s?-\s?\d{4})$`)
)

// Clean returns text as it may be sent, and what was taken out of it, one reason each.
func (g *Guard) Clean(text string) (clean string, removed []string) {
	if mutant.Is("output-not-checked") {
		return text, nil
	}
	for range 12 { // what is left may have come to look like a link: look again until nothing is found
		before := text
		var found []string
		text, found = g.pass(text)
		removed = append(removed, found...)
		if text == before {
			return text, removed
		}
	}
	return "", append(removed, "a text that does not come to rest") // built to outlast us: nothing of it is sent
}

// kept holds what was found to be allowed while the rest of a text is looked through: one private character each.
type kept []string

const firstKept = '\U000F0000'

func (k *kept) keep(s string) string {
	*k = append(*k, s)
	return string(firstKept + rune(len(*k)) - 1)
}

func (k kept) restore(text string) string {
	if len(k) == 0 {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		if i := int(r - firstKept); i >= 0 && i < len(k) {
			b.WriteString(k[i])
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
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
	text = replace(text, mdRefUse, func(m []string) string { drop("a link by reference"); return m[1] })
	text = replace(text, mdLink, func(m []string) string {
		if g.allowed(m[2]) {
			return m[0]
		}
		drop("a link to a host that is not allowed")
		return m[1]
	})
	if g.nonce != "" && strings.Contains(text, g.nonce) {
		drop("a border of quoted data")
		text = strings.ReplaceAll(text, g.nonce, "")
	}
	var good kept
	text = replace(text, anyURL, func(m []string) string {
		space := lead(m[0])
		link := strings.TrimPrefix(m[0], space)
		if g.allowed(link) || g.ownAddress(link) {
			return space + good.keep(link)
		}
		drop("a link to a host that is not allowed")
		return space + linkRemoved
	})
	text = replace(text, email, func(m []string) string {
		if strings.Contains(g.own, strings.ToLower(squeeze(m[0]))) {
			return good.keep(m[0])
		}
		drop("an e-mail address that is not this contact's")
		return emailRemoved
	})
	text = bareAddresses(text, func(m string) string {
		if g.allowed("https://" + m) {
			return good.keep(m)
		}
		drop("an address that is not allowed")
		return linkRemoved
	})
	// After the addresses: what is taken out here must not part a name from the host it stood before.
	if t := unsaid(text, g.runs); t != text {
		drop("words of our instructions or of a note")
		text = t
	}
	text = replace(text, uuid, func(m []string) string {
		if strings.Contains(g.own, strings.ToLower(m[0])) {
			return good.keep(m[0])
		}
		drop("an internal id")
		return idRemoved
	})
	text = replace(text, secret, func([]string) string { drop("something like a key"); return idRemoved })
	text = replace(text, token, func(m []string) string {
		if !noise(m[0]) || strings.Contains(g.own, strings.ToLower(m[0])) {
			return m[0]
		}
		drop("something like a key")
		return idRemoved
	})
	text = replace(text, phone, func(m []string) string {
		d := digits(m[0])
		if len(d) < 8 || len(d) > 20 || date.MatchString(strings.TrimSpace(m[0])) || strings.Contains(g.digit, d) {
			return m[0]
		}
		drop("a number that is not this contact's")
		return numberRemoved
	})
	return strings.TrimSpace(good.restore(text)), removed
}

// bareAddresses puts f's text in the place of every address without a scheme.
func bareAddresses(text string, f func(address string) string) string {
	var b strings.Builder
	for {
		at := bareHost.FindStringIndex(text)
		if at == nil {
			return b.String() + text
		}
		end := at[1]
		if isAddress(text[at[0]:end] + pathAfter.FindString(text[end:])) {
			end += len(pathAfter.FindString(text[end:]))
			b.WriteString(text[:at[0]] + f(text[at[0]:end]))
		} else {
			b.WriteString(text[:end])
		}
		text = text[end:]
	}
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

// hostOf returns the host that a browser would go to, lower case and without a port; empty for
// everything that is not plain http or https to a named host.
func hostOf(link string) string {
	link = strings.TrimRight(strings.TrimSpace(link), trailing)
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
