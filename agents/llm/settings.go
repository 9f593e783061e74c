package llm

import (
	"time"

	"github.com/tandemhq/tandem/internal/egress"
)

// The providers an AI member can choose. All but Rules speak the OpenAI-compatible wire format at
// their own address.
const (
	Rules     = "rules"     // the built-in model of agents/rules; Open refuses it, the caller has it at hand
	OpenAI    = "openai"    // OpenAI, or with BaseURL any compatible server (Mistral, vLLM, OpenRouter)
	Anthropic = "anthropic" // Claude through its OpenAI-compatible endpoint
	Google    = "google"    // Gemini through its OpenAI-compatible endpoint
	Ollama    = "ollama"    // Ollama's /v1 endpoint; BaseURL is required, no key is needed
)

// Settings says how an AI member reaches its model.
type Settings struct {
	Provider string        // one of the provider constants
	BaseURL  string        // up to and including "/v1"; empty means the provider's own
	Model    string        // the model's name at the provider; required
	APIKey   string        // the organization's own key; required except for Ollama. Never read from the environment
	Timeout  time.Duration // for one call with its retries; 0 means 60 s

	// AllowPrivate lists the networks that the operator of this installation lets tenants reach
	// although they are not public, such as an Ollama on the local network.
	AllowPrivate []egress.Allow

	Temperature *float64 // nil lets the provider choose, which newer models insist on
	MaxAttempts int      // tries of one call on 429, 5xx and lost connections; 0 means 3
	MaxBody     int64    // bytes of an answer that are read at most; 0 means 4 MiB

	// Prices in millionths of a currency unit per million tokens, for Usage.CostMicros; 0 means unpriced.
	InputPrice, OutputPrice int64
}
