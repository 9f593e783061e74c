package tools

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/tandemhq/tandem/agents"
	"github.com/tandemhq/tandem/inbox"
)

// TestEveryFileIsListed: a file of this folder is a tool, and All has it.
func TestEveryFileIsListed(t *testing.T) {
	t.Parallel()
	listed := map[string]agents.Tool{}
	for _, tool := range All() {
		listed[tool.Name] = tool
	}
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, f := range files {
		name, isGo := strings.CutSuffix(f.Name(), ".go")
		if !isGo || strings.HasSuffix(name, "_test") || name == "tools" {
			continue
		}
		found++
		if _, ok := listed[name]; !ok {
			t.Errorf("%s has a tool that All does not list; its name must be %q", f.Name(), name)
		}
	}
	if found != len(listed) {
		t.Errorf("%d files, %d tools listed", found, len(listed))
	}
}

// TestNoToolTakesATarget: whom and what a tool touches is never up to the model.
func TestNoToolTakesATarget(t *testing.T) {
	t.Parallel()
	target := regexp.MustCompile(`(?i)(^|_)(id|ids|org|organization|contact|recipient|to|cc|bcc|conversation|lead|member|team|channel|email|phone|url|path|fence|run|approved)($|_)`)
	for _, tool := range All() {
		if tool.Tier > agents.TierWrite {
			t.Errorf("%s has tier %d, which needs a person", tool.Name, tool.Tier)
		}
		var s struct {
			Type       string                     `json:"type"`
			Properties map[string]json.RawMessage `json:"properties"`
			Additional *bool                      `json:"additionalProperties"`
		}
		if err := json.Unmarshal(tool.Schema, &s); err != nil {
			t.Fatalf("%s: %v", tool.Name, err)
		}
		if s.Type != "object" || s.Additional == nil || *s.Additional || len(s.Properties) == 0 || tool.About == "" {
			t.Errorf("%s: the schema must be a closed object with properties: %s", tool.Name, tool.Schema)
		}
		for name := range s.Properties {
			if target.MatchString(name) {
				t.Errorf("%s takes %q from the model", tool.Name, name)
			}
		}
	}
}

// TestReasons: the model may give exactly the reasons that a handoff knows.
func TestReasons(t *testing.T) {
	t.Parallel()
	var s struct {
		Properties struct {
			Reason struct {
				Enum []string `json:"enum"`
			} `json:"reason"`
		} `json:"properties"`
	}
	if err := json.Unmarshal(requestHandoff.Schema, &s); err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Join(s.Properties.Reason.Enum, " "), strings.Join(inbox.Reasons, " "); got != want {
		t.Errorf("reasons %s, want %s", got, want)
	}
}
