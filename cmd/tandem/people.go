package main

import "strings"

// person is somebody whom the demo plays: what they want and what they say when asked.
type person struct {
	name, company, email string
	byForm               bool   // writes by the lead form, else in the chat
	title                string // of the lead
	opening              string
	need, budget         string
	authority, timeline  string
	question             string // asked once, before they leave
	ending               string // said at the end; empty: they say nothing more
}

// people are made up, and so are their companies; example.com is reserved (RFC 2606).
var people = []person{
	{
		name: "Amara Okafor", company: "Northwind Clinics", email: "amara@northwind.example.com", byForm: true, title: "Scheduling for four clinics",
		opening: "Hello, we run four clinics and still plan our rooms on paper. Does Lumen work for several locations?",
		need:    "We need one calendar for all four sites, so that two people never book the same room.", budget: "We have about 38,000 euros a year for this.",
		authority: "I decide together with our COO.", timeline: "We would like to be live before 15 March.",
		question: "Is there a discount if we pay yearly?",
	},
	{
		name: "Yuki Weber", company: "Atlas Foods", email: "yuki@atlas.example.com", title: "Shift planning",
		opening: "Hi! Can I import our shifts from a spreadsheet?",
		need:    "We are looking for shift planning for about 40 people in three kitchens.", budget: "Around $12k per year would be fine.",
		authority: "I'm the head of operations and I sign this myself.", timeline: "Ideally in the next six weeks.",
		ending: "Great, thank you!",
	},
	{
		name: "Kwame Tanaka", company: "Helio Solar", email: "kwame@helio.example.com", byForm: true, title: "Field teams",
		opening: "We send 25 installers out every morning. What does Lumen cost for a team of that size?",
		need:    "Our problem is that plans change during the day and the installers don't hear of it.", budget: "Our budget is 9000 EUR a year.",
		authority: "My manager, the CFO, has the last word.", timeline: "Sometime next quarter.",
		question: "Could I talk to a real person about the contract?",
	},
	{
		name: "Lina Bennett", company: "Cobalt Studios", email: "lina@cobalt.example.com", title: "Studio bookings",
		opening: "Hello, is there a free trial?",
		need:    "We want our clients to book studio time by themselves.", budget: "Not more than 300 a month.",
		authority: "It's my own company, so I decide.", timeline: "As soon as possible, this month if we can.",
		ending: "Perfect, that helps.",
	},
	{
		name: "Diego Dahl", company: "Juniper Health", email: "diego@juniper.example.com", byForm: true, title: "Data protection",
		opening: "Good morning. Where is our data stored if we use Lumen?",
		need:    "We need appointment reminders that follow data protection rules.", budget: "Between 15,000 and 20,000 euros.",
		authority: "The board decides, I prepare it.", timeline: "By the end of June.",
		ending: "Thanks, I'll tell the board.",
	},
	{
		name: "Hannah Keller", company: "Brightpath Logistics", email: "hannah@brightpath.example.com", title: "Broken reminder",
		opening: "How do reminders reach our customers, by text message or e-mail?",
		need:    "Drivers need to see the plan of their day on the phone.", budget: "We spend about 20k a year on the tool we have now.",
		authority: "I am the COO.", timeline: "Our current contract ends in April.",
		question: "Can I speak to a person please?",
	},
	{
		name: "Omar Kaya", company: "Kaya Dental", email: "omar@kaya.example.com", byForm: true, title: "Online booking for a dental practice",
		opening: "We have one practice with six chairs. Can patients cancel online?",
		need:    "Fewer calls at the front desk, that is all we need.", budget: "About 150 euros a month.",
		authority: "I am the owner.", timeline: "In two months or so.",
		ending: "Thank you, that is clear.",
	},
	{
		name: "Priya Natarajan", company: "Open Campus", email: "priya@campus.example.com", title: "Rooms for courses",
		opening: "Hi there, does Lumen connect to our calendar?",
		need:    "We plan rooms for 120 courses every term.", budget: "I can't say yet, maybe 25,000.",
		authority: "Our director decides, I am on the selection team.", timeline: "Before the next term starts in September.",
		ending: "Thanks a lot.",
	},
}

// script is one playing of a person: each thing is told once.
type script struct {
	p    person
	told map[string]bool
}

func (p person) script() *script { return &script{p, map[string]bool{}} }

// answer is what the person says to a text, or nothing when they leave.
func (s *script) answer(text string) string {
	text = lastQuestion(strings.ToLower(text))
	asked := []struct {
		topic, says string
		words       []string
	}{
		{"budget", s.p.budget, []string{"budget", "spend", "afford"}},
		{"authority", s.p.authority, []string{"decide", "decision", "sign off", "signs off", "approve", "who else"}},
		{"timeline", s.p.timeline, []string{"when ", "by when", "how soon", "timeline", "start date", "deadline"}},
		{"need", s.p.need, []string{"looking for", "need", "problem", "hoping", "trying to", "solve", "tell me", "describe"}},
	}
	for _, a := range asked {
		if s.told[a.topic] {
			continue
		}
		for _, w := range a.words {
			if strings.Contains(text, w) {
				s.told[a.topic] = true
				return a.says
			}
		}
	}
	for _, last := range []string{s.p.question, s.p.ending} {
		if last != "" && !s.told[last] {
			s.told[last] = true
			return last
		}
	}
	return ""
}

// lastQuestion is the last sentence of a text that asks something, or nothing.
func lastQuestion(text string) string {
	end := strings.LastIndex(text, "?")
	if end < 0 {
		return ""
	}
	start := strings.LastIndexAny(text[:end], ".!?\n")
	return text[start+1 : end+1]
}
