package tandem

import (
	"encoding/base64"
	"encoding/json"
)

// Query asks for one page of a list.
type Query struct {
	Filter map[string]string // declared field -> wanted value
	Where  *Where            // further conditions; nil: none
	Sort   string            // a declared field, with "-" before it the greatest first; empty: newest first
	Search string            // free text, where the list supports it
	Cursor string            // opaque; empty for the first page
	Limit  int               // 1 to 1,000; 0 means 50
	Total  bool              // count all that match
}

// Where is a condition on a field, or a group of conditions: all of And, or one of Or.
type Where struct {
	Field string  `json:"field,omitempty" maxLength:"100" doc:"A field of the list."`
	Op    string  `json:"op,omitempty" enum:"eq,ne,in,lt,lte,gt,gte,has,null" doc:"eq when empty."`
	Value string  `json:"value,omitempty" maxLength:"4000" doc:"As text; for in, several with commas between them."`
	And   []Where `json:"and,omitempty" maxItems:"50" doc:"All of these."`
	Or    []Where `json:"or,omitempty" maxItems:"50" doc:"At least one of these."`
}

// Page is one keyset page. Next is empty at the end of the list.
type Page[T any] struct {
	Items []T    `json:"items"`
	Next  string `json:"next,omitempty"`
	Total *int   `json:"total,omitempty" doc:"How many match, at most 10,000; only when it was asked for."`
}

const (
	defaultLimit = 50
	maxLimit     = 1000
	// MaxTotal is where Page.Total stops counting.
	MaxTotal = 10_000
)

// Size returns the page size asked for: 50 when unset, never above 1,000.
func (q Query) Size() int {
	switch {
	case q.Limit <= 0:
		return defaultLimit
	case q.Limit > maxLimit:
		return maxLimit
	}
	return q.Limit
}

// EncodeCursor packs the sort key of a page's last row. A cursor is opaque to
// callers and holds nothing that they could not see in the row itself.
func EncodeCursor(key ...string) string {
	b, err := json.Marshal(key)
	if err != nil {
		return "" // strings always encode
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

// DecodeCursor unpacks a cursor of exactly n parts; anything else is Invalid.
func DecodeCursor(cursor string, n int) ([]string, error) {
	b, err := base64.RawURLEncoding.DecodeString(cursor)
	var key []string
	if err == nil {
		err = json.Unmarshal(b, &key)
	}
	if err != nil || len(key) != n {
		return nil, InvalidFields(FieldError{"cursor", "This is not a cursor of this list. Leave it out to start at the beginning."})
	}
	return key, nil
}

// PageOf cuts rows, fetched with limit size+1, to a page whose cursor is made by key.
func PageOf[T any](rows []T, size int, key func(T) []string) Page[T] {
	p := Page[T]{Items: rows}
	if len(rows) > size {
		p.Items = rows[:size]
		p.Next = EncodeCursor(key(rows[size-1])...)
	}
	if p.Items == nil {
		p.Items = []T{}
	}
	return p
}
