package rules

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/tandemhq/tandem/agents/llm"
)

// shape is what a tool's schema lets in. A model has to keep to the schema it was shown; for a
// program that means: drop what is not declared, and write lists and lengths as declared.
type shape struct {
	Properties map[string]struct {
		Type      string   `json:"type"`
		Enum      []string `json:"enum"`
		MaxLength int      `json:"maxLength"`
		MaxItems  int      `json:"maxItems"`
	} `json:"properties"`
}

func shapes(tools []llm.ToolSpec) map[string]shape {
	out := make(map[string]shape, len(tools))
	for _, t := range tools {
		var s shape
		_ = json.Unmarshal(t.Schema, &s) // a schema that does not parse declares nothing
		out[t.Name] = s
	}
	return out
}

// has reports whether the tool declares the argument.
func (s shape) has(name string) bool {
	_, ok := s.Properties[name]
	return ok
}

// fit brings arguments into the declared form. A tool without declared properties takes them as they are.
func (s shape) fit(args map[string]any) json.RawMessage {
	out := map[string]any{}
	for k, v := range args {
		p, ok := s.Properties[k]
		if !ok && len(s.Properties) > 0 {
			continue
		}
		list, isList := v.([]string)
		switch {
		case isList && p.Type == "string":
			v = cut(strings.Join(list, "; "), p.MaxLength)
		case isList:
			if p.MaxItems > 0 && len(list) > p.MaxItems {
				list = list[len(list)-p.MaxItems:]
			}
			if list == nil {
				list = []string{}
			}
			v = list
		case p.Type == "array":
			if text, ok := v.(string); ok {
				v = []string{text}
			}
		}
		if text, ok := v.(string); ok {
			if len(p.Enum) > 0 && !slices.Contains(p.Enum, text) {
				continue
			}
			v = cut(text, p.MaxLength)
		}
		out[k] = v
	}
	b, err := json.Marshal(out)
	if err != nil {
		return json.RawMessage("{}") // strings, lists of strings and numbers always encode
	}
	return b
}

// cut shortens s to at most n bytes at a word, with an ellipsis; n of 0 means no limit.
func cut(s string, n int) string {
	if n <= 0 || len(s) <= n {
		return s
	}
	if n < 8 {
		return strings.ToValidUTF8(s[:n], "")
	}
	s = strings.ToValidUTF8(s[:n-3], "")
	if i := strings.LastIndexByte(s, ' '); i > len(s)/2 {
		s = s[:i]
	}
	return s + "…"
}
