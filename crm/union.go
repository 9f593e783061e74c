package crm

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
)

// filledFrom fills what one lacks from other, and says what: each field with what it was and is. Of tags and custom fields it
// names what was added.
func filledFrom(one, other Contact) (Contact, []tandem.Change) {
	var filled []tandem.Change
	text := func(field string, to *string, from string) {
		if *to == "" && from != "" {
			filled, *to = append(filled, tandem.Change{Field: field, Old: "", New: from}), from
		}
	}
	maybe := func(field string, to **string, from *string) {
		if *to == nil && from != nil {
			filled, *to = append(filled, tandem.Change{Field: field, New: *from}), from
		}
	}
	if one.FirstName == "" && one.LastName == "" && other.FirstName+other.LastName != "" { // its name stood for one that was not known
		filled = append(filled, tandem.Change{Field: "name", Old: one.Name, New: other.Name})
		one.Name = other.Name
		text("first_name", &one.FirstName, other.FirstName)
		text("last_name", &one.LastName, other.LastName)
	}
	maybe("email", &one.Email, other.Email)
	maybe("phone", &one.Phone, other.Phone)
	text("company", &one.Company, other.Company)
	if one.AccountID == nil && other.AccountID != nil {
		filled, one.AccountID = append(filled, tandem.Change{Field: "account_id", New: *other.AccountID}), other.AccountID
	}
	text("title", &one.Title, other.Title)
	maybe("language", &one.Language, other.Language)
	maybe("timezone", &one.Timezone, other.Timezone)
	text("city", &one.City, other.City)
	maybe("country", &one.Country, other.Country)
	if tags := cleanTags(append(slices.Clone(one.Tags), other.Tags...)); len(tags) > len(one.Tags) {
		filled = append(filled, tandem.Change{Field: "tags", New: tags[len(one.Tags):]})
		one.Tags = tags
	}
	return fillCustom(one, other, filled)
}

// customField begins the name of a change of one custom field.
const customField = "custom."

func fillCustom(one, other Contact, filled []tandem.Change) (Contact, []tandem.Change) {
	one.Custom = maps.Clone(one.Custom)
	for _, k := range slices.Sorted(maps.Keys(other.Custom)) {
		if _, has := one.Custom[k]; !has && len(one.Custom) < maxCustom {
			one.Custom[k] = other.Custom[k]
			filled = append(filled, tandem.Change{Field: customField + k, New: other.Custom[k]})
		}
	}
	return one, filled
}

// emptied takes back what filledFrom did, as far as nobody has changed it since, and says what it took back.
func emptied(c Contact, filled []tandem.Change) (Contact, []tandem.Change, error) {
	raw, err := json.Marshal(c)
	if err != nil {
		return c, nil, fmt.Errorf("read a contact's fields: %w", err)
	}
	var fields map[string]any
	if err := json.Unmarshal(raw, &fields); err != nil {
		return c, nil, fmt.Errorf("read a contact's fields: %w", err)
	}
	var changes []tandem.Change
	tags, custom := c.Tags, maps.Clone(c.Custom)
	for _, f := range filled {
		key, isCustom := strings.CutPrefix(f.Field, customField)
		switch {
		case isCustom && reflect.DeepEqual(custom[key], f.New):
			delete(custom, key)
		case isCustom:
			continue
		case f.Field == "tags":
			added, _ := f.New.([]any)
			tags = slices.DeleteFunc(slices.Clone(tags), func(t string) bool { return slices.Contains(added, any(t)) })
		case reflect.DeepEqual(fields[f.Field], f.New):
			fields[f.Field] = f.Old
		default:
			continue
		}
		changes = append(changes, tandem.Change{Field: f.Field, Old: f.New, New: f.Old})
	}
	if raw, err = json.Marshal(fields); err != nil {
		return c, nil, fmt.Errorf("write a contact's fields: %w", err)
	}
	var back Contact
	if err := json.Unmarshal(raw, &back); err != nil {
		return c, nil, fmt.Errorf("write a contact's fields: %w", err)
	}
	back.Tags, back.Custom = tags, custom
	return back, changes, nil
}

const sqlRewrite = `
UPDATE contacts SET name = @name, first_name = @first, last_name = @last, email = @email, phone = @phone, company = @company,
	account_id = @account, title = @title, language = @language, timezone = @timezone, city = @city, country = @country,
	tags = @tags, custom = @custom, updated_at = now(), version = version + 1
WHERE org_id = @org AND id = @id`

// rewrite stores all fields that a merge may fill.
func rewrite(ctx context.Context, tx pgx.Tx, org tandem.ID, c Contact) error {
	_, err := tx.Exec(ctx, sqlRewrite, pgx.StrictNamedArgs{
		"org": org, "id": c.ID, "name": c.Name, "first": c.FirstName, "last": c.LastName, "email": c.Email, "phone": c.Phone,
		"company": c.Company, "account": c.AccountID, "title": c.Title, "language": c.Language, "timezone": c.Timezone,
		"city": c.City, "country": c.Country, "tags": c.Tags, "custom": c.Custom,
	})
	if err != nil {
		return fmt.Errorf("fill contact: %w", err)
	}
	return nil
}
