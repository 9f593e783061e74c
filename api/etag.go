package api

import (
	"strconv"
	"strings"

	"github.com/tandemhq/tandem"
)

// versioned is the input of a change that may be tied to the version that the caller saw.
type versioned struct {
	ByID
	IfMatch string `header:"If-Match" maxLength:"100" doc:"The version you saw, as an entity tag."`
}

// ifMatch reads a record's version from an If-Match header (RFC 9110, 13.1.1); nil when absent.
func ifMatch(h string) (*int64, error) {
	h = strings.TrimSpace(h)
	if h == "" || h == "*" {
		return nil, nil
	}
	n, err := strconv.ParseInt(strings.Trim(strings.TrimPrefix(h, "W/"), `"`), 10, 64)
	if err != nil {
		return nil, tandem.InvalidFields(tandem.FieldError{Field: "If-Match", Message: "Send the record's version, such as \"3\"."})
	}
	return &n, nil
}
