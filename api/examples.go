package api

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// describeExamples gives every body that is asked for or answered an example. It is put together from the examples of
// its fields: the `example` tag of a struct's field, else what samples and asks say, else something that fits.
func (s *server) describeExamples() {
	doc := s.huma.OpenAPI()
	doc.Components.Examples = map[string]*huma.Example{}
	e := exampler{schemas: doc.Components.Schemas}
	keep := func(media *huma.MediaType, name, summary string, value any) {
		if doc.Components.Examples[name] == nil {
			doc.Components.Examples[name] = &huma.Example{Summary: summary, Value: value}
		}
		media.Examples = map[string]*huma.Example{"example": {Ref: "#/components/examples/" + name}}
	}
	s.operations(func(op *huma.Operation) {
		if op.RequestBody != nil {
			if media := op.RequestBody.Content["application/json"]; media != nil && media.Schema != nil {
				value, told := asks[op.OperationID]
				if !told {
					value = e.asked(media.Schema)
				}
				keep(media, op.OperationID, op.Summary, value)
			}
		}
		for _, code := range slices.Sorted(maps.Keys(op.Responses)) {
			for ctype, media := range op.Responses[code].Content {
				switch {
				case ctype == "text/event-stream":
					media.Example = "id: 4711\nevent: hello\ndata: {\"seq\":4711}\n\n"
				case media.Schema != nil && strings.Contains(ctype, "json"): // a file is its own example
					name, _ := e.resolved(op.OperationID+"-"+code, media.Schema)
					keep(media, name, "An answer", e.of("", "", media.Schema))
				}
			}
		}
	})
}

// exampler makes examples that fit a schema.
type exampler struct {
	schemas huma.Registry
	above   []string // the schemas around the one at hand
}

// asked is an example of what a client sends: the fields that are needed and those that have an example of their own.
func (e exampler) asked(s *huma.Schema) any {
	name, s := e.resolved("", s)
	s = e.merged(s)
	out := map[string]any{}
	for _, key := range slices.Sorted(maps.Keys(s.Properties)) {
		if key == "patch" {
			out[key] = e.asked(s.Properties[key])
		} else if slices.Contains(s.Required, key) || len(s.Properties[key].Examples) > 0 {
			out[key] = e.of(name, key, s.Properties[key])
		}
	}
	for _, key := range slices.Sorted(maps.Keys(s.Properties)) { // nothing is needed: the first one shows how it is done
		if len(out) == 0 {
			out[key] = e.of(name, key, s.Properties[key])
		}
	}
	return out
}

// of is an example of the field key of the schema owner.
func (e exampler) of(owner, key string, s *huma.Schema) any {
	if len(s.Examples) > 0 {
		return s.Examples[0]
	}
	for _, name := range []string{owner + "." + key, key} {
		if v, ok := samples[name]; ok && fits(s, v) {
			return v
		}
	}
	name, s := e.resolved(owner, s)
	s = e.merged(s)
	if v, ok := samples[owner+"."+key]; ok && key != "" && s.Type == huma.TypeObject && fits(s, v) {
		return v
	}
	if v, ok := samples[name+"."]; ok && name != owner {
		return v
	}
	switch {
	case len(s.Examples) > 0:
		return s.Examples[0]
	case len(s.Enum) > 0 && s.Default != nil:
		return s.Default
	case len(s.Enum) > 0:
		return s.Enum[0]
	case s.Type == huma.TypeObject && len(s.Properties) > 0:
		if slices.Contains(e.above, name) {
			return map[string]any{}
		}
		e.above = append(slices.Clone(e.above), name)
		out := map[string]any{}
		for k, p := range s.Properties {
			if part, _ := e.resolved(name, p); part != name || slices.Contains(s.Required, k) {
				out[k] = e.of(name, k, p)
			}
		}
		return out
	case s.Type == huma.TypeObject:
		out := map[string]any{}
		if each, ok := s.AdditionalProperties.(*huma.Schema); ok && each.Ref != "" {
			out["budget"] = e.of(name, key, each)
		}
		return out
	case s.Type == huma.TypeArray:
		if each, _ := e.resolved("", s.Items); each != "" && slices.Contains(e.above, each) {
			return []any{}
		}
		return []any{e.of(name, strings.TrimSuffix(key, "s"), s.Items)}
	case s.Type == huma.TypeInteger:
		if s.Minimum != nil {
			return max(1, int64(*s.Minimum))
		}
		return int64(1)
	case s.Type == huma.TypeNumber:
		return 0.9
	case s.Type == huma.TypeBoolean:
		return false
	case s.Type == huma.TypeString:
		return textLike(owner, key, s)
	}
	return map[string]any{}
}

func textLike(owner, key string, s *huma.Schema) string {
	switch {
	case s.Format == "date-time":
		return "2026-11-30T15:04:05Z"
	case s.Format == "date":
		return "2026-11-30"
	case s.Format == "uri" || strings.HasSuffix(key, "url"):
		return "https://www.example.com/page"
	case key == "id":
		return exampleID(nounOf(owner))
	case strings.HasSuffix(key, "_id"):
		return exampleID(strings.TrimSuffix(key, "_id"))
	}
	text := strings.ReplaceAll(key, "_", " ")
	if text == "" {
		return "text"
	}
	return strings.ToUpper(text[:1]) + text[1:]
}

// exampleID is the id of the one record of its kind that all examples are about.
func exampleID(noun string) string {
	sum := sha256.Sum256([]byte(noun))
	return "01930f1e-8a00-7000-8000-" + hex.EncodeToString(sum[:6])
}

var capital = regexp.MustCompile(`([a-z])([A-Z])`)

// nounOf is the kind of record that a schema with an id shows: ChannelRef shows a channel.
func nounOf(schema string) string {
	for _, part := range []string{"Ref", "Shape", "Handoff"} {
		if whole := strings.TrimSuffix(strings.TrimPrefix(schema, part), part); whole != "" {
			schema = whole
		}
	}
	if schema == "Conv" {
		schema = "Conversation"
	}
	for _, part := range []string{"Contact", "Stage"} {
		if strings.HasSuffix(schema, part) {
			schema = part
		}
	}
	return strings.ToLower(capital.ReplaceAllString(schema, "${1}_$2"))
}

// resolved follows references and leaves out null; name is the schema's own.
func (e exampler) resolved(name string, s *huma.Schema) (string, *huma.Schema) {
	for {
		switch {
		case s.Ref != "":
			name, s = s.Ref[strings.LastIndex(s.Ref, "/")+1:], e.schemas.SchemaFromRef(s.Ref)
		case len(s.AnyOf) > 0:
			s = s.AnyOf[0]
		case len(s.OneOf) > 0:
			s = s.OneOf[0]
		default:
			return name, s
		}
	}
}

// merged is the one schema that a list of allOf comes to.
func (e exampler) merged(s *huma.Schema) *huma.Schema {
	if len(s.AllOf) == 0 {
		return s
	}
	out := &huma.Schema{Type: huma.TypeObject, Properties: map[string]*huma.Schema{}}
	for _, part := range s.AllOf {
		_, part = e.resolved("", part)
		maps.Copy(out.Properties, part.Properties)
		out.Required = append(out.Required, part.Required...)
	}
	return out
}

// fits reports whether a sample is of the schema's type.
func fits(s *huma.Schema, v any) bool {
	switch v.(type) {
	case nil:
		return s.Nullable
	case string:
		return s.Type == huma.TypeString && s.Format == "" && (len(s.Enum) == 0 || slices.Contains(s.Enum, v))
	case int:
		return s.Type == huma.TypeInteger
	case float64:
		return s.Type == huma.TypeNumber
	case bool:
		return s.Type == huma.TypeBoolean
	case []string:
		return s.Type == huma.TypeArray
	}
	return s.Type == huma.TypeObject || s.Type == "" && s.Ref == ""
}

// object is an example as it is sent.
func object(text string) (v map[string]any) {
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		panic("api: an example is no JSON: " + err.Error()) // every one is a constant below
	}
	return v
}

// samples are values of fields, by field or by schema and field; "Schema." is a whole one.
var samples = map[string]any{
	"name": "Ada Lovelace", "first_name": "Ada", "last_name": "Lovelace", "email": "ada@example.com", "phone": "+49301234567",
	"company": "Analytical Engines", "industry": "Computing", "website": "https://www.example.com", "title": "Two racks for the lab",
	"Board.name": "Sales", "Stage.name": "Qualified", "StageRef.name": "Qualified", "LeadStage.name": "Qualified",
	"Channel.name": "Website chat", "ChannelRef.name": "Website chat", "ChannelInputBody.name": "Website chat", "ChannelPatchBody.name": "Website chat",
	"Team.name": "Sales", "OrgShape.name": "Analytical Engines", "Member.name": "Grace Hopper", "MemberRef.name": "Grace Hopper",
	"MemberShape.name": "Grace Hopper", "ActorStamp.name": "Grace Hopper", "Member.title": "Account manager", "MemberShape.title": "Account manager",
	"Document.title": "Delivery", "DocumentInputBody.title": "Delivery", "DocumentPatchBody.title": "Delivery", "Hit.title": "Delivery", "Source.title": "Delivery",
	"Document.body": "We deliver racks in ten days.", "DocumentInputBody.body": "We deliver racks in ten days.", "DocumentPatchBody.body": "We deliver racks in ten days.",
	"Hit.text": "We deliver racks in ten days.", "text": "How long does a delivery take?", "preview": "How long does a delivery take?",
	"preview_kind": "message", "preview_name": "Ada Lovelace", "subject": "Delivery", "error": "", "last_error": "",
	"state": "open", "Handoff.state": "accepted", "Run.state": "done", "Message.status": "sent", "status": 200, "Problem.status": 422,
	"Channel.kind": "webchat", "ChannelRef.kind": "webchat", "ChannelInputBody.kind": "webchat", "ActorStamp.kind": "human", "MemberRef.kind": "human",
	"Sender.kind": "ai", "Message.kind": "message", "Message.direction": "outbound", "Sender.name": "Ava", "MemberShape.role": "agent",
	"Step.kind": "model", "Step.name": "rules", "provider": "rules", "model": "rules", "autonomy": "auto",
	"priority": "normal", "temperature": "warm", "source": "website", "currency": "EUR", "minor": 125000, "value": 125000,
	"Qualification.value": "10,000 EUR", "Qualified.value": "10,000 EUR", "QualifyInputBody.value": "10,000 EUR", "quote": "We have ten thousand euros.",
	"Handoff.reason": "customer_asked", "HandoffRef.reason": "customer_asked", "reason": "She asks for a person.", "decision": "I know her.",
	"summary": "She asks how long a delivery takes.", "asked": []string{"How long a delivery takes"}, "tried": []string{"The knowledge base"},
	"promised": []string{"An answer today"}, "next_step": "Call her.", "skill": "sales", "lost_reason": "Too late",
	"tags": []string{"b2b"}, "skills": []string{"sales"}, "permissions": []string{"lead:read", "lead:write"}, "custom": map[string]any{"seats": 12},
	"noun": "lead", "verb": "updated", "category": "crm", "severity": "info", "description": "Grace Hopper changed the lead.",
	"field": "title", "Change.field": "priority", "old": "normal", "new": "high", "FieldError.message": "A title is needed.",
	"message": "Hello, how long does a delivery take?", "external_id": "form-4711", "client_key": "reply-1", "public_key": "wk_4711",
	"consumer": "courier", "topic": "message.queued", "detail": "", "password": "a long enough password", "settings": map[string]any{},
	"notes": "She wants two racks.", "board": "Sales", "Identity.value": "ada@example.com", "Identity.kind": "email",
	"input": map[string]any{}, "output": map[string]any{"text": "Ten days."}, "chunks": []string{},
	"Lead.lost_reason": nil, "Task.completed_at": nil, "Task.follows_id": nil, "Task.parent_id": nil, "Task.account_id": nil, "Task.description": "She wants two racks.",
	"Call.account_id": nil, "Call.contact_id": nil, "Note.account_id": nil, "Note.contact_id": nil, "Account.parent_id": nil, "Message.html": "<p>Ten days.</p>",
	"Message.text": "Ten days.", "attachments": []string{}, "Run.member": map[string]any{"id": exampleID("member"), "kind": "ai", "name": "Ava"}, "Call.duration_seconds": 240,
	"active": true, "total": 1, "next": "eyJpZCI6IjAxOTMwZjFlIn0",
	"Where.":     object(`{"field":"priority","op":"eq","value":"high"}`),
	"ViewQuery.": object(`{"filter":{"temperature":"hot"},"sort":"-value","fields":["title","value"]}`),
	"LeadAccepted.": map[string]any{
		"contact": ofKind("contact"), "lead": ofKind("lead"), "conversation": ofKind("conversation"), "message": ofKind("message"), "duplicate": false,
	},
	"Target.":     map[string]any{"member_id": exampleID("member")},
	"BulkResult.": map[string]any{"id": exampleID("record"), "status": http.StatusOK, "version": 2},
}

func ofKind(noun string) map[string]any { return map[string]any{"id": exampleID(noun)} }

// asks are examples of requests that no rule makes, by operation.
var asks = map[string]any{
	"post-leads":                       object(`{"contact_id":"` + exampleID("contact") + `","title":"Two racks for the lab","value":{"minor":125000,"currency":"EUR"},"priority":"high","tags":["b2b"]}`),
	"patch-leads-id":                   object(`{"temperature":"hot","priority":"high"}`),
	"post-contacts":                    object(`{"name":"Ada Lovelace","email":"ada@example.com","phone":"+49301234567","company":"Analytical Engines"}`),
	"patch-contacts-id":                object(`{"company":"Analytical Engines"}`),
	"post-notes":                       object(`{"lead_id":"` + exampleID("lead") + `","body":"She **knows** engines."}`),
	"post-calls":                       object(`{"lead_id":"` + exampleID("lead") + `","direction":"outbound","outcome":"connected","started_at":"2026-11-30T15:04:05Z","duration_seconds":240,"notes":"She wants two racks."}`),
	"post-lead-sources":                object(`{"name":"Trade fair","kind":"other","cost_minor":125000,"currency":"EUR"}`),
	"patch-lead-sources-id":            object(`{"active":false}`),
	"post-conversations-id-messages":   object(`{"text":"Ten days. Shall I send you an offer?"}`),
	"post-conversations-id-takeover":   object(`{"reason":"I know her."}`),
	"post-conversations-id-handoff":    aHandoff,
	"post-leads-id-handoff":            aHandoff,
	"post-leads-id-stage":              object(`{"stage_id":"` + exampleID("stage") + `"}`),
	"post-inbound-lead":                object(`{"title":"Two racks for the lab","message":"Hello, how long does a delivery take?","source":"website","value":125000,"currency":"EUR","contact":{"name":"Ada Lovelace","email":"ada@example.com"}}`),
	"put-leads-id-qualification-field": object(`{"value":"10,000 EUR","confidence":0.9,"quote":"We have ten thousand euros.","message_id":"` + exampleID("message") + `"}`),
}

var aHandoff = object(`{"reason":"customer_asked","packet":{"summary":"She asks for a contract.","asked":["A contract"],"next_step":"Call her."},"to":{"member_id":"` + exampleID("member") + `"}}`)
