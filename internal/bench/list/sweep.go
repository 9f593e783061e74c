package list

import (
	"bytes"
	"context"
	"fmt"
	"net/url"
	"time"

	"github.com/tandemhq/tandem/internal/bench"
)

// wantSlowest is how much slower than the first page any other list may be.
const wantSlowest = 10

// sweep asks every question that the list of conversations understands: each view with each state, in all channels, a
// common and a rare one, on the first page and at two depths; and each other filter by itself and with open ones.
func (t *target) sweep(ctx context.Context) (bench.Row, error) {
	const asked = 7 // times; the figure is the median, and the slowest of 300 medians of fewer is the machine's
	plain, err := t.median(ctx, url.Values{"state": {"open"}}, asked)
	if err != nil {
		return bench.Row{}, err
	}
	var slowest time.Duration
	var which url.Values
	questions := t.questions()
	for _, q := range questions {
		took, err := t.median(ctx, q, asked)
		if err != nil {
			return bench.Row{}, err
		}
		if took > slowest {
			slowest, which = took, q
		}
	}
	which.Del("cursor")
	if which.Get("channel_id") == string(t.rare) {
		which.Set("channel_id", "rare")
	} else if which.Has("channel_id") {
		which.Set("channel_id", "common")
	}
	return bench.AtMost("G6", fmt.Sprintf("slowest of %d lists and filters ÷ first page, p50, c=1", len(questions)), wantSlowest,
		[]float64{float64(slowest) / float64(plain)}, []float64{1},
		fmt.Sprintf("%.1f ms (%s), first page %.1f ms", bench.Millis(slowest), which.Encode(), bench.Millis(plain))), nil
}

func (t *target) questions() []url.Values {
	list := []url.Values{{"contact_id": {string(t.contact)}}, {"lead_id": {string(t.lead)}}}
	for _, q := range []string{
		"unread=true", "unanswered=true", "sort=unanswered", "priority=urgent", "tag=none", "reason=customer_asked", "reason=policy", "channel_kind=webhook",
		"sort=created_at", "sort=-created_at", "created_before=2024-07-01T00:00:00Z&sort=-created_at", "active_before=2024-07-01T00:00:00Z",
		"search=contact77", "search=nobody+at+all", "owner_id=" + string(t.owner),
	} {
		for _, more := range []string{"", "&state=open"} {
			if v, err := url.ParseQuery(q + more); err == nil {
				list = append(list, v)
			}
		}
	}
	for _, view := range []string{"all", "mine", "needs_you", "ai", "unowned"} {
		for _, state := range []string{"", "open", "waiting", "snoozed", "resolved", "spam"} {
			for _, channel := range []string{"", string(t.common), string(t.rare)} {
				for _, cursor := range []string{"", t.depths[0], t.depths[1]} {
					q := url.Values{"view": {view}}
					for name, value := range map[string]string{"state": state, "channel_id": channel, "cursor": cursor} {
						if value != "" {
							q.Set(name, value)
						}
					}
					list = append(list, q)
				}
			}
		}
	}
	return list
}

func (t *target) median(ctx context.Context, q url.Values, asked int) (time.Duration, error) {
	var took []time.Duration
	var body bytes.Buffer
	for range asked {
		began := time.Now()
		if err := t.get(ctx, "/conversations?"+q.Encode(), &body); err != nil {
			return 0, err
		}
		took = append(took, time.Since(began))
	}
	return bench.Percentile(took, 0.5), nil
}
