package crm

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/pg"
)

// publicDomains are those of mail for everybody: an address there says nothing about where somebody works.
var publicDomains = func() map[string]bool {
	m := map[string]bool{}
	for _, d := range strings.Fields(`
		gmail.com googlemail.com outlook.com outlook.de outlook.fr hotmail.com hotmail.de hotmail.fr hotmail.co.uk hotmail.it live.com live.de
		live.co.uk live.fr msn.com yahoo.com yahoo.de yahoo.fr yahoo.co.uk yahoo.it yahoo.es yahoo.co.in yahoo.co.jp ymail.com rocketmail.com
		icloud.com me.com mac.com aol.com gmx.de gmx.net gmx.at gmx.ch gmx.com web.de freenet.de t-online.de mail.de posteo.de mailbox.org
		proton.me protonmail.com protonmail.ch pm.me tutanota.com tutanota.de tuta.io fastmail.com hey.com zoho.com mail.com email.com
		yandex.com yandex.ru mail.ru bk.ru inbox.ru list.ru rambler.ru qq.com 163.com 126.com sina.com naver.com daum.net hanmail.net
		orange.fr wanadoo.fr free.fr laposte.net sfr.fr libero.it virgilio.it tiscali.it alice.it wp.pl o2.pl onet.pl interia.pl seznam.cz
		centrum.cz bluewin.ch a1.net aon.at btinternet.com sky.com talktalk.net comcast.net verizon.net att.net sbcglobal.net cox.net
		bigpond.com optusnet.com.au rediffmail.com uol.com.br bol.com.br terra.com.br telenet.be skynet.be ziggo.nl kpnmail.nl xs4all.nl`) {
		m[d] = true
	}
	return m
}()

// employer returns the account whose domain is that of the address; nil when there is none, or the domain is everybody's.
func employer(ctx context.Context, tx pgx.Tx, org tandem.ID, email string) (*tandem.ID, error) {
	email, ok := NormalizeEmail(email)
	domain := email[strings.LastIndex(email, "@")+1:]
	if !ok || publicDomains[domain] {
		return nil, nil
	}
	const sqlEmployer = `SELECT id FROM accounts WHERE org_id = @org AND domain = @domain AND archived_at IS NULL`
	var id tandem.ID
	err := tx.QueryRow(ctx, sqlEmployer, pgx.StrictNamedArgs{"org": org, "domain": domain}).Scan(&id)
	switch {
	case pg.NoRows(err):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("find account by domain: %w", err)
	}
	return &id, nil
}
