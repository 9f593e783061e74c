package agents

import (
	"bytes"
	"encoding/json"
	"math"
	"strings"
	"time"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/agents/llm"
)

var noChunks = json.RawMessage(`[]`)

// chunksOf is what a step keeps of the passages it found: not their text, which the knowledge base has.
func chunksOf(hits []Hit) json.RawMessage {
	type chunk struct {
		Chunk    tandem.ID `json:"chunk_id"`
		Document tandem.ID `json:"document_id"`
		Title    string    `json:"title"`
		Score    float64   `json:"score"`
	}
	out := make([]chunk, len(hits))
	for i, h := range hits {
		out[i] = chunk{h.Chunk, h.Document, h.Title, h.Score}
	}
	return asJSON(out)
}

// maxRecorded bounds one text of the record, in bytes.
const maxRecorded = 8 << 10

// recordedMessages is what a step keeps of a request.
func recordedMessages(msgs []llm.Message) []map[string]any {
	out := make([]map[string]any, len(msgs))
	for i, m := range msgs {
		r := map[string]any{"role": m.Role, "text": clip(m.Text, maxRecorded)}
		for key, value := range map[string]string{"from": m.From, "name": clip(m.Name, 100), "call_id": clip(m.CallID, 100)} {
			if value != "" {
				r[key] = value
			}
		}
		if len(m.Calls) > 0 {
			r["calls"] = recordedCalls(m.Calls)
		}
		out[i] = r
	}
	return out
}

func recordedCalls(calls []llm.Call) []map[string]any {
	const most = 20
	out := make([]map[string]any, 0, min(len(calls), most))
	for _, c := range calls[:min(len(calls), most)] {
		out = append(out, map[string]any{"id": clip(c.ID, 100), "name": clip(c.Name, 100), "args": asRecord(c.Args)})
	}
	return out
}

// asRecord keeps a model's arguments as they are when they are harmless JSON, else the start of their text.
func asRecord(args json.RawMessage) json.RawMessage {
	if len(args) <= maxArgs && json.Valid(args) && bytes.Count(args, []byte("["))+bytes.Count(args, []byte("{")) < 200 {
		var v any
		d := json.NewDecoder(bytes.NewReader(args))
		d.UseNumber()
		if d.Decode(&v) == nil {
			return asJSON(tame(v))
		}
	}
	return asJSON(clip(string(args), 2000))
}

// tame turns numbers that no database column holds into text.
func tame(v any) any {
	switch v := v.(type) {
	case json.Number:
		if f, err := v.Float64(); err != nil || len(v) > 40 || (f != 0 && math.Abs(f) < 1e-300) {
			return clip(string(v), 100)
		}
	case []any:
		for i := range v {
			v[i] = tame(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = tame(v[k])
		}
	}
	return v
}

// asJSON encodes v so that a jsonb column takes it.
func asJSON(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		return json.RawMessage(`"?"`)
	}
	b = bytes.ReplaceAll(b, []byte(`\u0000`), []byte(`\ufffd`))
	return b
}

// clean makes text that a text column takes.
func clean(s string) string {
	return strings.ToValidUTF8(strings.ReplaceAll(s, "\x00", "\ufffd"), "\ufffd")
}

func since(t time.Time) int { return int(time.Since(t).Milliseconds()) }
