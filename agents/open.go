package agents

import (
	"context"
	"sync"

	"github.com/tandemhq/tandem/agents/llm"
	"github.com/tandemhq/tandem/internal/egress"
	"github.com/tandemhq/tandem/internal/seal"
	"github.com/tandemhq/tandem/team"
)

// Models opens the models that AI members choose, and keeps them: a model holds connections.
type Models struct {
	Rules        llm.Model      // the built-in model, for members without a provider
	AllowPrivate []egress.Allow // networks that tenants may reach although they are not public

	mu   sync.Mutex
	open map[llmKey]llm.Model
}

type llmKey struct {
	provider, base, model, key string
	inputPrice, outputPrice    int64
}

// maxOpen bounds the models that are kept; beyond it all are forgotten and opened again when needed.
const maxOpen = 256

// Open returns the model that p names; it fits Runner.Models. It makes no call to the model.
func (m *Models) Open(_ context.Context, p team.AIProfile, key seal.Secret) (llm.Model, error) {
	if p.Provider == "" || p.Provider == llm.Rules {
		return m.Rules, nil
	}
	k := llmKey{p.Provider, p.BaseURL, p.Model, key.Reveal(), max(p.InputPrice, 0), max(p.OutputPrice, 0)}
	m.mu.Lock()
	defer m.mu.Unlock()
	if got, ok := m.open[k]; ok {
		return got, nil
	}
	model, err := llm.Open(llm.Settings{
		Provider: k.provider, BaseURL: k.base, Model: k.model, APIKey: k.key, AllowPrivate: m.AllowPrivate,
		InputPrice: k.inputPrice, OutputPrice: k.outputPrice,
	})
	if err != nil {
		return nil, err
	}
	if m.open == nil || len(m.open) >= maxOpen {
		m.open = map[llmKey]llm.Model{}
	}
	m.open[k] = model
	return model, nil
}
