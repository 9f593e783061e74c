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
		126.com 139.com 163.com 189.cn a1.net aim.com alice.it aol.com aol.de aon.at arcor.de att.net bell.net bellsouth.net bigpond.com bk.ru
		bluewin.ch bol.com.br btinternet.com centrum.cz charter.net comcast.net cox.net daum.net duck.com earthlink.net email.com fastmail.com
		fastmail.fm foxmail.com free.fr freenet.de gmail.com gmx.at gmx.ch gmx.com gmx.de gmx.net googlemail.com hanmail.net hey.com
		hotmail.co.uk hotmail.com hotmail.de hotmail.es hotmail.fr hotmail.it hushmail.com icloud.com inbox.com inbox.ru interia.pl juno.com
		kolabnow.com kpnmail.nl laposte.net libero.it list.ru live.co.uk live.com live.de live.fr live.nl mac.com mail.com mail.de mail.ru
		mailbox.org mailfence.com me.com msn.com naver.com ntlworld.com o2.pl onet.pl online.de op.pl optonline.net optusnet.com.au orange.fr
		outlook.com outlook.de outlook.es outlook.fr pm.me posteo.de posteo.net proton.me protonmail.ch protonmail.com qq.com rambler.ru
		rediffmail.com rocketmail.com rogers.com runbox.com sapo.pt sbcglobal.net seznam.cz sfr.fr shaw.ca sina.com sky.com skynet.be
		t-online.de talktalk.net telenet.be terra.com.br tiscali.it tuta.com tuta.io tutanota.com tutanota.de uol.com.br verizon.net virgilio.it
		virginmedia.com vodafone.de wanadoo.fr web.de wp.pl xs4all.nl ya.ru yahoo.ca yahoo.co.in yahoo.co.jp yahoo.co.uk yahoo.com yahoo.com.br
		yahoo.de yahoo.es yahoo.fr yahoo.it yandex.com yandex.ru ymail.com ziggo.nl zoho.com zohomail.com`) {
		m[d] = true
	}
	return m
}()

// companyDomain is the domain of an e-mail address when it says for whom somebody works, else nothing.
func companyDomain(email string) string {
	email, ok := NormalizeEmail(email)
	domain := email[strings.LastIndex(email, "@")+1:]
	if !ok || publicDomains[domain] || !domainForm.MatchString(domain) {
		return ""
	}
	return domain
}

// employer returns the account whose domain is that of the address; nil when there is none, or the domain is everybody's.
func employer(ctx context.Context, tx pgx.Tx, org tandem.ID, email string) (*tandem.ID, error) {
	domain := companyDomain(email)
	if domain == "" {
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
