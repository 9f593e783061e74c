package bus

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tandemhq/tandem"
)

// Look connects to an external server, asks for JetStream, and says what it found in a
// few words. It changes nothing.
func Look(ctx context.Context, url string) (string, error) {
	nc, err := nats.Connect(url, nats.Timeout(5*time.Second), nats.Name("tandem doctor"))
	if err != nil {
		return "", tandem.Wrap(tandem.Unavailable, err, "No NATS server answers at the given address.")
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return "", fmt.Errorf("open JetStream: %w", err)
	}
	if _, err := js.AccountInfo(ctx); err != nil {
		return "", tandem.Wrap(tandem.Unavailable, err, "The NATS server has no JetStream.")
	}
	return "NATS " + nc.ConnectedServerVersion() + " with JetStream", nil
}
