package list

import (
	"context"
	"errors"
	"time"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/bench"
)

// Dataset is the database of the lists, for other measurements that need a large one.
type Dataset struct {
	*bench.Database
	Conversations int
	Org           tandem.ID // the largest organization, which has half of them
	Key           string    // an API key of its owner

	cluster *bench.Cluster
}

// OpenDataset opens the database of that many conversations, made when it is not there. Close it.
func OpenDataset(ctx context.Context, e *bench.Env, conversations int) (*Dataset, error) {
	c, err := cache(ctx)
	if err != nil {
		return nil, err
	}
	d, err := open(ctx, e, c, conversations)
	if err != nil {
		return nil, errors.Join(err, stop(ctx, c))
	}
	return &Dataset{d.Database, conversations, d.org, d.key, c}, nil
}

// Close ends the connections and stops the cluster, which stays where it is.
func (d *Dataset) Close(ctx context.Context) error {
	d.Database.Close()
	return stop(ctx, d.cluster)
}

func stop(ctx context.Context, c *bench.Cluster) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	return c.Stop(ctx)
}
