package api_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/inbox"
	"github.com/tandemhq/tandem/internal/proof"
	"github.com/tandemhq/tandem/internal/tandemtest"
	"github.com/tandemhq/tandem/team"
)

// CLM-8: a member, human or AI, who is disabled in another process is out within a second, with the
// session and with the key, while both are in constant use; and owns nothing any more.
func TestDisabledMembersAreOut(t *testing.T) {
	t.Parallel()
	h := tandemtest.Start(t, nil)
	o := h.NewOrg("leavers")
	const most = time.Second
	trials := proof.Size(2, 12)
	var slowest time.Duration
	doors := 0
	for i := range trials {
		var person, ext, machine team.Member
		keys := make([]string, 3)
		email := fmt.Sprintf("leaver%d@example.com", i)
		h.In(o.ID, func(ctx context.Context, tx pgx.Tx) (err error) {
			if person, err = team.AddHuman(ctx, tx, team.NewHuman{Name: "Grace", Email: email, Password: "another long password", Role: team.Agent}); err != nil {
				return err
			}
			if ext, err = team.AddExternal(ctx, tx, fmt.Sprintf("Xen %d", i), "", team.Agent); err != nil {
				return err
			}
			if machine, err = team.AddAI(ctx, tx, h.Sealer, team.NewAI{Name: fmt.Sprintf("Ada %d", i)}); err != nil {
				return err
			}
			for k, m := range []team.Member{person, ext, machine} {
				if keys[k], _, err = team.CreateKey(ctx, tx, "key", m.ID, nil); err != nil {
					return err
				}
			}
			return nil
		})
		login := signIn(h, email, "another long password")
		cookie, _, _ := strings.Cut(login.Header.Get("Set-Cookie"), ";")
		if login.Status != http.StatusOK || cookie == "" {
			t.Fatalf("login: %d %s", login.Status, login.Body)
		}
		using := []struct {
			who    team.Member
			key    string
			header []string
		}{{person, "", []string{"Cookie", cookie, "Sec-Fetch-Site", "same-origin"}}, {person, keys[0], nil}, {ext, keys[1], nil}, {machine, keys[2], nil}}
		owned := 0
		for _, m := range []team.Member{person, ext} { // each owns something that must become free
			lead := h.Want(http.StatusCreated, http.MethodPost, "/api/v1/inbound/lead", o.Key, map[string]any{"title": "t", "message": "m", "contact": map[string]string{"email": string(m.ID) + "@example.com"}})
			var got struct {
				Conversation struct{ ID tandem.ID }
			}
			lead.Into(t, &got)
			h.Want(http.StatusOK, http.MethodPost, "/api/v1/conversations/"+string(got.Conversation.ID)+"/claim", keys[owned], map[string]any{})
			owned++
		}
		for _, u := range using {
			h.Want(http.StatusOK, http.MethodGet, "/api/v1/me", u.key, nil, u.header...)
		}
		released := 0
		h.In(o.ID, func(ctx context.Context, tx pgx.Tx) error {
			for _, m := range []team.Member{person, ext, machine} {
				if err := team.Disable(ctx, tx, m.ID); err != nil {
					return err
				}
				n, err := inbox.ReleaseAllOf(ctx, tx, m.ID)
				if err != nil {
					return err
				}
				released += n
			}
			return nil
		})
		gone := time.Now()
		if released != owned {
			t.Errorf("%d conversations released, want %d", released, owned)
		}
		var mu sync.Mutex
		var wg sync.WaitGroup
		for _, u := range using {
			wg.Go(func() {
				last := gone // when a request that was still let in had begun
				for time.Since(gone) < 3*time.Second {
					began := time.Now()
					if a := h.Do(http.MethodGet, "/api/v1/me", u.key, nil, u.header...); a.Status == http.StatusUnauthorized {
						break
					}
					last = began
					time.Sleep(20 * time.Millisecond)
				}
				mu.Lock()
				defer mu.Unlock()
				slowest = max(slowest, last.Sub(gone))
				doors++
			})
		}
		wg.Wait()
	}
	if slowest > most {
		t.Errorf("a disabled member got in %v after the commit", slowest)
	}
	proof.Figure(t, "CLM-8", "%d sessions and keys of people, external and AI members in constant use while another process disables them: the last request let in began %v after the commit, at most %v promised; all they owned is free in the same transaction", doors, slowest.Round(time.Millisecond), most)
}
