package main

import (
	"regexp"
	"strings"
	"testing"
)

func TestInit(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	args := []string{"init", "--data", dir, "--organization", "Moreau Care", "--owner", "Ada Moreau", "--email", "ada@moreau.example.com"}
	refused(t, []string{"TANDEM_LOGIN_PASSWORD=short"}, args, "password")

	p := launch(t, nil, args...)
	if code := p.ends(atMost); code != 0 {
		t.Fatalf("exit code %d: %s", code, p.err.String())
	}
	nothingLeft(t, dir)
	said := p.out.String()
	key := regexp.MustCompile(`API key\s+(\S+)`).FindStringSubmatch(said)
	if key == nil || !strings.Contains(said, "ada@moreau.example.com") || !regexp.MustCompile(`data-key="pk_\w+"`).MatchString(said) {
		t.Fatalf("the output lacks login, key or widget: %s", said)
	}
	refused(t, nil, args, "account") // the address has one already

	addr := freePort(t)
	serve := launch(t, nil, "serve", "--data", dir, "--http", addr)
	serve.says("answers on")
	org := demoFile{URL: "http://" + addr, APIKey: key[1]}
	var me struct {
		Member struct{ Name, Role string }
		Org    struct{ Name, Currency string }
	}
	org.ask(t, "/api/v1/me", &me)
	if me.Member.Name != "Ada Moreau" || me.Member.Role != "owner" || me.Org.Name != "Moreau Care" || me.Org.Currency != "EUR" {
		t.Errorf("signed in as %+v", me)
	}
	var channels, boards struct{ Items []struct{ Name string } }
	org.ask(t, "/api/v1/channels", &channels)
	org.ask(t, "/api/v1/boards", &boards)
	if len(channels.Items) != 2 || len(boards.Items) != 2 {
		t.Errorf("it begins with %v and %v", channels.Items, boards.Items)
	}
	stopped(t, serve)
}
