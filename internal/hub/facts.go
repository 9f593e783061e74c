package hub

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tandemhq/tandem/internal/events"
)

// newFacts counts what the consumers of this process have worked off, so that an operator of several processes sees how
// the work is spread.
func newFacts() *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "tandem_facts_total", Help: "Facts that this process has worked off, by consumer and outcome (done, failed).",
	}, []string{"consumer", "outcome"})
}

// counted is a consumer's handler that counts.
func (h *Hub) counted(consumer string, handle func(context.Context, events.Fact) error) func(context.Context, events.Fact) error {
	done, failed := h.facts.WithLabelValues(consumer, "done"), h.facts.WithLabelValues(consumer, "failed")
	return func(ctx context.Context, f events.Fact) error {
		err := handle(ctx, f)
		if err != nil {
			failed.Inc()
		} else {
			done.Inc()
		}
		return err
	}
}

// countedApply is counted for a consumer whose effect is in the transaction that remembers the fact.
func (h *Hub) countedApply(consumer string, apply func(context.Context, pgx.Tx, events.Fact) error) func(context.Context, pgx.Tx, events.Fact) error {
	done, failed := h.facts.WithLabelValues(consumer, "done"), h.facts.WithLabelValues(consumer, "failed")
	return func(ctx context.Context, tx pgx.Tx, f events.Fact) error {
		err := apply(ctx, tx, f)
		if err != nil {
			failed.Inc()
		} else {
			done.Inc()
		}
		return err
	}
}

// countedAll is counted for a consumer that takes many facts at once. What is done is counted before its transaction has
// committed: one that is done again after that failed counts twice.
func (h *Hub) countedAll(consumer string, apply func(context.Context, pgx.Tx, []events.Fact) error) func(context.Context, pgx.Tx, []events.Fact) error {
	done, failed := h.facts.WithLabelValues(consumer, "done"), h.facts.WithLabelValues(consumer, "failed")
	return func(ctx context.Context, tx pgx.Tx, facts []events.Fact) error {
		err := apply(ctx, tx, facts)
		if err != nil {
			failed.Add(float64(len(facts)))
		} else {
			done.Add(float64(len(facts)))
		}
		return err
	}
}
