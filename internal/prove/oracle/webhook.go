package oracle

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
)

// sink takes what a webhook channel sends. A repeat under a webhook-id that it knows is taken and answered as before:
// whoever reads the journal tells repeats from duplicates by the key.
type sink struct {
	j      *Journal
	faults *faults
	ctx    context.Context
}

const mostBody = 8 << 20

func (s *sink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f := s.faults.roll(Webhook)
	if !f.begin(s.ctx, w, r) {
		return
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, mostBody))
	var in struct {
		Data struct {
			Message      string `json:"message_id"`
			Conversation string `json:"conversation_id"`
			Text         string `json:"text"`
		} `json:"data"`
	}
	key := r.Header.Get("webhook-id")
	if err != nil || json.Unmarshal(body, &in) != nil || key == "" {
		http.Error(w, "a delivery has a webhook-id and a JSON body", http.StatusBadRequest)
		return
	}
	s.j.add(Entry{Provider: Webhook, Kind: Took, Key: key, Thread: in.Data.Conversation, Text: in.Data.Text})
	if !f.taken(s.ctx, w, r, key) {
		return
	}
	s.j.add(Entry{Provider: Webhook, Kind: Answered, Key: key})
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]string{"id": key}) // the sender may have given up
}
