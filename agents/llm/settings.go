package llm

import (
	"net/url"
	"strings"
	"time"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/egress"
)

// The providers an AI member can choose. All but Rules speak the OpenAI-compatible wire format at
// their own address.
const (
	Rules     = "rules"     // the built-in model of agents/rules; Open refuses it, the caller has it at hand
	OpenAI    = "openai"    // OpenAI
	Anthropic = "anthropic" // Claude through its OpenAI-compatible endpoint
	Google    = "google"    // Gemini through its OpenAI-compatible endpoint
	Ollama    = "ollama"    // Ollama's /v1 endpoint; needs no key

	// Compatible is any other server of that format (Mistral, vLLM, OpenRouter); BaseURL is
	// required, a key only if the server wants one.
	Compatible = "compatible"
)

// Providers lists every provider, the built-in one first.
var Providers = []string{Rules, OpenAI, Anthropic, Google, Ollama, Compatible}

// baseURLs are the providers' own addresses. Ollama's is this machine, which Open refuses until
// the operator allows it.
var baseURLs = map[string]string{
	OpenAI:    "https://api.openai.com/v1",
	Anthropic: "https://api.anthropic.com/v1",
	Google:    "https://generativelanguage.googleapis.com/v1beta/openai",
	Ollama:    "http://127.0.0.1:11434/v1",
}

// Settings says how an AI member reaches its model.
type Settings struct {
	Provider string        // one of the provider constants
	BaseURL  string        // up to and including "/v1"; empty means the provider's own
	Model    string        // the model's name at the provider; required
	APIKey   string        // the organization's own key; required except for Ollama and Compatible. Never read from the environment
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

// Check returns an Invalid error that names each setting with which Open would fail.
func (s Settings) Check() error {
	var bad []tandem.FieldError
	base, known := baseURLs[s.Provider]
	if !known && s.Provider != Compatible {
		bad = append(bad, tandem.FieldError{Field: "provider", Message: "Choose one of openai, anthropic, google, ollama, compatible."})
	}
	if strings.TrimSpace(s.Model) == "" {
		bad = append(bad, tandem.FieldError{Field: "model", Message: "Name the model as the provider calls it."})
	}
	if s.APIKey == "" && s.Provider != Ollama && s.Provider != Compatible {
		bad = append(bad, tandem.FieldError{Field: "api_key", Message: "Enter the key that the provider gave you."})
	} else if strings.ContainsFunc(s.APIKey, func(r rune) bool { return r <= ' ' || r > '~' }) {
		bad = append(bad, tandem.FieldError{Field: "api_key", Message: "A key has no spaces and no special characters."})
	}
	if s.BaseURL != "" {
		base = s.BaseURL
	}
	if base == "" && s.Provider == Compatible {
		bad = append(bad, tandem.FieldError{Field: "base_url", Message: "Enter the address of the server, up to and including /v1."})
	}
	if base != "" {
		if err := s.checkBase(base); err != "" {
			bad = append(bad, tandem.FieldError{Field: "base_url", Message: err})
		}
	}
	if len(bad) > 0 {
		return tandem.InvalidFields(bad...)
	}
	return nil
}

func (s Settings) checkBase(base string) string {
	u, err := url.Parse(base)
	if err != nil {
		return "This is not a URL."
	}
	if u.RawQuery != "" || u.Fragment != "" {
		return "Leave out everything from ? or # on."
	}
	c := egress.New(egress.Options{Allow: s.AllowPrivate, TLSOnly: true})
	if err := c.Check(base); err != nil {
		return "Use an https address on the public Internet. The operator of this installation can allow a private address."
	}
	return ""
}

func (s Settings) withDefaults() Settings {
	if s.BaseURL == "" {
		s.BaseURL = baseURLs[s.Provider]
	}
	s.BaseURL = strings.TrimRight(s.BaseURL, "/")
	if s.APIKey == "" {
		s.APIKey = "none" // a local server ignores it, and the client library never looks elsewhere
	}
	if s.Timeout <= 0 {
		s.Timeout = time.Minute
	}
	if s.MaxAttempts <= 0 {
		s.MaxAttempts = 3
	}
	if s.MaxBody <= 0 {
		s.MaxBody = 4 << 20
	}
	return s
}
