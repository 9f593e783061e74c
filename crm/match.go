package crm

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/events"
)

// Matched is what became of looking for an account's contacts.
type Matched struct {
	Linked int  `json:"linked" doc:"How many contacts belong to the account from now on."`
	More   bool `json:"more" doc:"Whether there are more: ask again."`
}

const maxMatch = 1000 // contacts at once

const (
	// In the order of their ids, as bulk changes take them; who is given an account meanwhile is left alone.
	sqlUnmatched = `
SELECT id FROM contacts
WHERE org_id = @org AND email_domain = @domain AND account_id IS NULL AND archived_at IS NULL
ORDER BY id LIMIT @limit FOR NO KEY UPDATE`
	sqlMatch = `
UPDATE contacts SET account_id = @account, updated_at = now(), version = version + 1 WHERE org_id = @org AND id = ANY(@ids::uuid[])
RETURNING id, name`
)

// Match makes contacts of the account of those who have no account and an e-mail address of its domain: at most 1,000, with a
// fact for each. An account without a domain, or with one where anybody can have an address, is Conflict.
func (s accounts) Match(ctx context.Context, tx pgx.Tx, id tandem.ID) (m Matched, err error) {
	a, err := Contacts.May(ctx, "write")
	if err != nil {
		return m, err
	}
	v, err := s.Set.Get(ctx, tx, id)
	if err != nil {
		return m, err
	}
	switch {
	case v.Domain == nil:
		return m, tandem.Errorf(tandem.Conflict, "%s has no domain to look for.", v.Name)
	case freeMail[*v.Domain]:
		return m, tandem.Errorf(tandem.Conflict, "Anybody can have an address of %s: it says nothing about the company.", *v.Domain)
	}
	rows, err := tx.Query(ctx, sqlUnmatched, pgx.StrictNamedArgs{"org": a.Org, "domain": *v.Domain, "limit": maxMatch + 1})
	if err != nil {
		return m, fmt.Errorf("look for an account's contacts: %w", err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[tandem.ID])
	if err != nil {
		return m, fmt.Errorf("look for an account's contacts: %w", err)
	}
	if m.More = len(ids) > maxMatch; m.More {
		ids = ids[:maxMatch]
	}
	if rows, err = tx.Query(ctx, sqlMatch, pgx.StrictNamedArgs{"org": a.Org, "account": id, "ids": ids}); err != nil {
		return m, fmt.Errorf("link an account's contacts: %w", err)
	}
	var facts events.Many
	var contact tandem.ID
	var name string
	if _, err := pgx.ForEachRow(rows, []any{&contact, &name}, func() error {
		m.Linked++
		return facts.Add(ctx, tandem.Event{
			Noun: "contact", Verb: "updated", Record: contact, Category: "crm", Severity: "info",
			Changes:     []tandem.Change{{Field: "account_id", New: id}},
			Description: a.Name + " found that " + tandem.Clip(name, 80) + " belongs to " + tandem.Clip(v.Name, 80),
		})
	}); err != nil {
		return m, fmt.Errorf("link an account's contacts: %w", err)
	}
	if err := facts.Flush(ctx, tx); err != nil {
		return m, fmt.Errorf("link an account's contacts: %w", err)
	}
	return m, nil
}

// freeMail are domains where anybody can have an address.
var freeMail = func() map[string]bool {
	all := map[string]bool{}
	for _, d := range []string{
		"126.com", "139.com", "163.com", "189.cn", "aim.com", "alice.it", "aol.com", "aol.de", "arcor.de", "att.net", "bell.net", "bellsouth.net", "bigpond.com", "bluewin.ch", "bol.com.br",
		"btinternet.com", "charter.net", "comcast.net", "cox.net", "duck.com", "email.com", "earthlink.net", "fastmail.com", "fastmail.fm", "foxmail.com", "free.fr", "freenet.de", "gmail.com",
		"gmx.at", "gmx.ch", "gmx.com", "gmx.de", "gmx.net", "googlemail.com", "hanmail.net", "hey.com", "hotmail.com", "hotmail.co.uk", "hotmail.de", "hotmail.es", "hotmail.fr", "hotmail.it",
		"hushmail.com", "icloud.com", "inbox.ru", "interia.pl", "juno.com", "kolabnow.com", "laposte.net", "libero.it", "list.ru", "live.co.uk", "live.com", "live.de", "live.fr", "live.nl",
		"mac.com", "mail.com", "mail.de", "mail.ru", "mailbox.org", "mailfence.com", "me.com", "msn.com", "naver.com", "ntlworld.com", "o2.pl", "onet.pl", "op.pl", "optonline.net", "orange.fr",
		"outlook.com", "outlook.de", "outlook.es", "outlook.fr", "pm.me", "posteo.de", "posteo.net", "proton.me", "protonmail.ch", "protonmail.com", "qq.com", "rambler.ru", "rediffmail.com",
		"rocketmail.com", "rogers.com", "runbox.com", "sapo.pt", "sbcglobal.net", "seznam.cz", "sfr.fr", "shaw.ca", "sina.com", "sky.com", "t-online.de", "talktalk.net", "telenet.be", "tiscali.it",
		"tuta.com", "tutanota.com", "tutanota.de", "uol.com.br", "verizon.net", "virgilio.it", "virginmedia.com", "wanadoo.fr", "web.de", "wp.pl", "ya.ru", "yahoo.ca", "yahoo.co.in", "yahoo.co.jp",
		"yahoo.co.uk", "yahoo.com", "yahoo.com.br", "yahoo.de", "yahoo.es", "yahoo.fr", "yahoo.it", "yandex.com", "yandex.ru", "ymail.com", "zoho.com", "zohomail.com",
	} {
		all[d] = true
	}
	return all
}()
