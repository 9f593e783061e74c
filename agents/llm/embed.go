package llm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
)

// embedBatch is how many texts go out in one request.
const embedBatch = 64

// EmbedSettings says how texts become vectors at a provider. Settings.Model names the embedding model.
type EmbedSettings struct {
	Settings
	Dim     int  // numbers per vector, as the column that stores them has; required
	Shorten bool // ask the provider for Dim numbers; only models that can be shortened accept this
}

type remoteEmbedder struct {
	m   *remote
	dim int
}

// OpenEmbedder returns the embedder that s describes, without calling it. Its Embed fails with
// CodeDimension when the provider's vectors are not Dim long.
func OpenEmbedder(s EmbedSettings) (Embedder, error) {
	return openEmbedder(s, newTransport(s.withDefaults()))
}

func openEmbedder(s EmbedSettings, t *transport) (*remoteEmbedder, error) {
	if s.Dim < 1 || s.Dim > 16000 {
		return nil, &Error{Code: CodeSettings, Err: fmt.Errorf("dimension %d is not between 1 and 16000", s.Dim)}
	}
	shorten := 0
	if s.Shorten {
		shorten = s.Dim
	}
	m, err := open(s.Settings, t, s.Model, shorten)
	if err != nil {
		return nil, err
	}
	return &remoteEmbedder{m: m, dim: s.Dim}, nil
}

func (e *remoteEmbedder) Name() string { return e.m.Name() }
func (e *remoteEmbedder) Dim() int     { return e.dim }

// Embed returns one vector per text, in their order. Each request has its own deadline.
func (e *remoteEmbedder) Embed(ctx context.Context, texts []string) ([][]float32, error) {
	out := make([][]float32, 0, len(texts))
	for batch := range slices.Chunk(texts, embedBatch) {
		x := &exchange{embed: len(batch)}
		var vecs [][]float32
		err := e.m.call(ctx, x, func(ctx context.Context) (err error) {
			vecs, err = e.m.client.CreateEmbedding(ctx, batch)
			return err
		})
		if err != nil {
			return nil, err
		}
		for _, v := range vecs {
			if len(v) != e.dim {
				return nil, &Error{Status: x.status, Code: CodeDimension, Err: fmt.Errorf("%s gives %d numbers per text, the knowledge base stores %d", e.Name(), len(v), e.dim)}
			}
		}
		out = append(out, vecs...)
	}
	return out, nil
}

// mendEmbeddings checks a 2xx embeddings body and puts its vectors in the order of their index,
// which the client library ignores.
func mendEmbeddings(body []byte, want int) ([]byte, *Error) {
	var w struct {
		Error json.RawMessage `json:"error"`
		Data  []struct {
			Index     *int      `json:"index"`
			Embedding []float32 `json:"embedding"`
		} `json:"data"`
	}
	if err := json.Unmarshal(body, &w); err != nil {
		return nil, malformed("answer is not the JSON of embeddings: %w", err)
	}
	if e := bodyError(w.Error); e != nil {
		return nil, e
	}
	if len(w.Data) != want {
		return nil, malformed("%d vectors for %d texts", len(w.Data), want)
	}
	type item struct {
		Index     int       `json:"index"`
		Embedding []float32 `json:"embedding"`
	}
	out := make([]item, want)
	seen := make([]bool, want)
	for n, d := range w.Data {
		i := n // a server that names no index means the order it writes
		if d.Index != nil {
			i = *d.Index
		} else if w.Data[0].Index != nil {
			return nil, malformed("some vectors have an index and some have none")
		}
		if i < 0 || i >= want || seen[i] {
			return nil, malformed("index %d is repeated or out of range", i)
		}
		seen[i] = true
		var sum float64
		for _, f := range d.Embedding {
			sum += float64(f) * float64(f)
		}
		if sum == 0 || math.IsInf(sum, 0) {
			return nil, malformed("vector %d has no direction", i)
		}
		out[i] = item{i, d.Embedding}
	}
	b, err := json.Marshal(map[string]any{"object": "list", "data": out})
	if err != nil {
		return nil, &Error{Code: CodeMalformed, Err: errors.New("vectors do not encode")}
	}
	return b, nil
}
