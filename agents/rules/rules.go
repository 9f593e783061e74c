// Package rules is the built-in model: what an AI member thinks with when no language model is
// configured. It is a plain program of readable rules for English sales conversations, drives the
// very same turn, tools and budgets as a language model, and needs no key and no network.
//
// What it does with the messages a customer has sent since our last answer, in this order:
//
//  1. Reads facts out of them: sums of money (money.go), dates (dates.go), team sizes and who decides
//     (people.go), what the customer needs (facts.go). They become set_qualification calls with the
//     sentence they came from as evidence. A fact that a person has locked is left alone.
//  2. Hands off at once when a rule of handoffRules below matches: a person is asked for, the
//     customer is angry, the matter is prices to negotiate, contracts or law, or is something that
//     no tool of ours can do.
//  3. Looks every question up with search_knowledge and answers with the best sentences of what
//     comes back, word for word, naming the document (answer.go). It never answers from anywhere
//     else. The second question without an answer is a handoff.
//  4. When need, authority, timeline and budget are all known well enough, moves the lead to the
//     first open stage whose name speaks of qualification, and hands the lead to a person.
//  5. Otherwise asks for one thing that is missing, each at most twice, in the organization's own
//     words if its playbook has them.
//
// Each turn ends with exactly one reply or one request_handoff. What a customer writes is data: it
// can become the value of a field, a search query or a quotation in a packet for colleagues, and
// nothing else. There is no text with which a customer can choose a tool, a stage, a recipient or
// what this package says. What it repeats back to a customer is only what it has itself rewritten
// (sums, dates, counts) or what stands in the knowledge base.
//
// This file holds the rules and the words; the other files hold the machinery.
package rules

// Thresholds of judgment.
const (
	sureEnough    = 0.5 // a qualification field below this is asked about again and does not qualify
	unknownAnswer = 0.3 // the customer says that they do not know
	askAtMost     = 2   // times that one field is asked for
	missAtMost    = 2   // questions without an answer before a colleague takes over
	goodMatch     = 0.5 // share of a question's weight that an answer has to cover
)

// handoffRule hands a conversation to people when its expression matches a sentence of the customer.
type handoffRule struct {
	reason string // one of the fixed reasons of a handoff
	re     *pattern
	not    *pattern // unless this matches the same sentence
	line   string   // what the customer is told
	next   string   // what the colleague should do next
}

// handoffRules are tried in order on every sentence.
var handoffRules = []handoffRule{
	{
		reason: "customer_asked",
		re: rx(`\b(?:speak|talk|chat|connect me|connect us|transfer me|put me through|get in touch) (?:to|with) (?:your |the |somebody in )?(?:sales|support|team|staff)\b|\b(?:speak|talk|chat|connect(?: me)?|put me through|pass me on|transfer me|get me|give me|want|need|prefer|rather have|reach|contact)\b[^.?!]{0,30}\b(?:human|person|real (?:person|human|someone)|somebody|someone|representative|rep|agent|advisor|salesperson|sales team|sales rep|colleague|your (?:sales|team|boss|manager)|manager|supervisor|operator)\b` +
			`|\b(?:human|real person|representative|operator),? please\b|\b(?:no|not)(?: a)? (?:bot|robot|machine)s?\b|^\s*(?:human|agent|representative|operator)[.!]?\s*$` +
			`|\b(?:call|phone|ring) me\b|\bgive me a (?:call|ring)\b|\bcan (?:someone|somebody|anyone|you) call\b` +
			`|\b(?:book|schedule|arrange|set up|organi[sz]e|have|get|do|see|like)\b(?: a| an| the)?(?: \w+){0,2} (?:demo|call|phone call|meeting|video call|appointment|walk-?through)\b`),
		not:  rx(`\bdo(?:es)? (?:you|it|your \w+) (?:have|offer|do)\b|\b(?:we|our (?:team|staff|people|planners?|managers?))\b[^.?!]{0,20}\b(?:need|want|have to|must|like)\b[^.?!]{0,30}\b(?:tool|software|app|system|to (?:see|schedule|plan|book|arrange|organi[sz]e|contact|reach))\b|\b(?:need|want|looking for) (?:someone|somebody|a person|people|a manager) (?:who|to (?:plan|run|work|fill|cover))|\bevery (?:person|manager|agent)\b`),
		line: "Of course. I am bringing in a colleague, who continues with you right here.",
		next: "Answer the customer in person; they asked for it.",
	},
	{
		reason: "sentiment",
		re: rx(`\b(?:this|that|it|you|your [a-z]+) (?:is|are|was|were|has been|'?s|'?re) (?:just |so |really |absolutely |totally |completely |simply |a )*(?:ridiculous|unacceptable|outrageous|a joke|useless|terrible|awful|horrible|pathetic|a disgrace|disgraceful|a scam|rubbish|garbage|stupid|incompetent|the worst)\b` +
			`|\b(?:useless|stupid|dumb|idiotic) (?:bot|robot|machine|assistant|chat)\b|\bi(?:'?m| am) (?:so |very |really |extremely |quite |getting )*(?:angry|upset|furious|frustrated|disappointed|annoyed|fed up)\b` +
			`|\b(?:waste of (?:my |our )?time|wasting (?:my|our) time|worst (?:service|support|experience|company)|complain(?:t)?\b|scammers?|rip-?off|wtf|bullsh\w*|f[u*]ck\w*|for god'?s sake|sick (?:and tired )?of (?:you|this|waiting)|never (?:answer|reply|responded)|not acceptable|(?:nobody|no ?one) (?:has |ever |even )*(?:answer|repl|respond|call|wrote|got back)\w*)`),
		not:  rx(`\b(?:spreadsheets?|excel|current (?:tool|software|system|provider|process)|our (?:planning|scheduling|process|system|old))\b`),
		line: "I am sorry about this. A colleague takes over from here and will answer you personally.",
		next: "Read the conversation first, then apologize and solve what upset the customer.",
	},
	{
		reason: "policy",
		re: rx(`\b(?:discounts?|rebates?|special (?:price|offer|deal|rate)|better (?:price|deal|rate)|lower (?:the|your) price|cheaper price|price (?:reduction|match)|negotiat\w+|haggle|money off|% off|percent off)\b` +
			`|\b(?:send|get|give|make|prepare|need|want|have|like|receive)\b[^.?!]{0,20}\b(?:quote|quotation|proposal|formal offer|cost estimate)\b|\b(?:can|could|would) you (?:do|go|make)(?: it)? (?:any )?(?:cheaper|lower)\b` +
			`|\b(?:contracts?|contractual|msa|nda|dpa|terms and conditions|terms of service|non-?disclosure|data processing agreement|service level agreement|liability|liable|indemni\w+|legal(?:ly)?|lawyers?|attorneys?|lawsuit|sue you|court|warrant(?:y|ies) clause|procurement terms|redlines?|payment terms)\b`),
		not:  rx(`\bcontract(?:or|ed)|(?:labor|labour|employment|zero-?hours?|staff|their|employees'?) (?:law|contracts?)|legal (?:breaks?|rest|limits?|working)|our (?:current|existing|old) contract\b`),
		line: "That is a question a colleague has to decide with you. I am passing your request on, and they answer you right here.",
		next: "Decide on the price, contract or legal question; the assistant may not.",
	},
	{
		reason: "unsupported_request",
		re: rx(`\b(?:delete|erase|remove|export|send me|give me) (?:all )?(?:of )?my (?:personal )?(?:data|account|information|records)\b|\b(?:right to be forgotten|data subject request|unsubscribe)\b` +
			`|\b(?:reset|change|forgot|forgotten|lost) (?:my|the|our) (?:password|login|e-?mail address|bank details|card)\b|\b(?:refund me|my (?:refund|money back)|cancel (?:my|our) (?:account|subscription|order|plan)|double charged|charged (?:me|us) twice|wrong invoice|my invoice)\b`),
		line: "I cannot do that myself, so a colleague takes care of it and answers you right here.",
		next: "Do what the customer asks for, or explain why not; the assistant has no tool for it.",
	},
}

// Words of handoffs that no sentence of the customer triggers.
var (
	missingKnowledge = handoffRule{
		reason: "missing_knowledge",
		line:   "I do not want to guess, so a colleague who knows takes over and answers you right here.",
		next:   "Answer the open questions, and add what was missing to the knowledge base.",
	}
	toolFailure = handoffRule{
		reason: "tool_failure",
		line:   "Something does not work on our side right now, so a colleague takes over and answers you right here.",
		next:   "Answer the customer; the assistant's tools failed in this conversation.",
	}
	qualifiedLead = handoffRule{
		reason: "qualified_lead",
		line:   "Thank you, that gives us the full picture. A colleague continues with you right here and prepares the next step.",
		next:   "Propose a concrete next step that fits the need, the timing and the budget.",
	}
	highValue = handoffRule{
		reason: "high_value",
		line:   "Thank you. I would like a colleague to look after this personally; they continue with you right here.",
		next:   "Take over this lead in person; its value is above the organization's limit.",
	}
	foreignLanguage = handoffRule{
		reason: "unsupported_request",
		line:   "Thank you for your message. A colleague takes over and answers you right here.",
		next:   "Answer in the customer's language; the built-in assistant reads English only.",
	}
)

// questions ask for a qualification field, the first time and the second time.
var questions = map[string][2]string{
	"need": {
		"What would you like to solve, and how do you handle it today?",
		"Could you describe in a sentence or two what you are looking for?",
	},
	"authority": {
		"Who besides you takes part in the decision?",
		"May I ask what your role is, and who makes the decision?",
	},
	"timeline": {
		"When would you like to have this running?",
		"Is there a date by which you would like to start?",
	},
	"budget": {
		"Do you have a budget in mind, even a rough one?",
		"Roughly what range did you plan to spend, per month or per year?",
	},
}

// Sentences the model says. %s is a name, a list or a document title.
const (
	sayHello      = "Hello%s, thank you for writing%s. I am %s."
	sayAssistant  = "an AI assistant"
	sayIdentity   = "I am an AI assistant, not a person. If you would rather talk to a colleague, say so and I bring one in."
	sayNoted      = "Thank you, I have noted %s."
	sayThanks     = "Thank you, that helps."
	sayWelcome    = "You are welcome. Write here whenever something comes up."
	sayAnythin    = "Is there anything I can answer for you?"
	sayMiss       = "I could not find an answer to that in our documents, and I do not want to guess."
	sayMissPart   = "I could not find an answer to the rest in our documents."
	sayMissNoted  = " I have noted the question for a colleague."
	saySource     = "(Source: %s)"
	sayWaiting    = "A colleague has your message and answers you right here."
	sayNoOne      = "I cannot reach a colleague from here at the moment. Your messages are kept, and the team sees them."
	sayHours      = " Our team is out of office at the moment and answers as soon as it is back."
	sayUnclear    = "I did not quite understand that. Could you say it in a few more words?"
	sayHowCanHelp = "How can I help you?"
	sayBack       = "I continue with you from here. Is there anything I can answer for you?"
)

// nouns name the fields in "I have noted ...".
var nouns = map[string]string{
	"need": "what you need", "authority": "who takes part in the decision", "timeline": "the timing", "budget": "your budget",
}

// What counts as which kind of sentence.
var (
	questionRE = rx(`^(?:(?:and|but|so|also|ok|okay|hi|hello|hey|great|thanks|thank you|well|one more (?:thing|question)|another question)[,:! ]+)*(?:what|how|which|when|where|who|why|whose|do you|does|did|can|could|is there|are there|is it|is the|is your|are you|are your|will|would (?:it|you|that)|have you|has|should|may (?:i|we)|tell (?:me|us)|explain)\b|\b(?:(?:i|we)(?:'d| would) like to know|wondering (?:if|whether|how|what)|curious (?:if|whether|how|about)|(?:need|like|want|have|send me|any) (?:more |some |further )?(?:info|information|details) (?:on|about|regarding)|(?:tell|know|learn|hear) (?:me |us )?more about|(?:question|questions) (?:is|about|regarding))\b`)
	smallTalk  = rx(`\b(?:can|could|would) you help(?: (?:me|us))?(?: (?:out|here|with (?:this|that|it)))?\W*$|\b(?:does that make sense|what do you (?:think|recommend|suggest)|any ideas|is that possible|would that work|can you do that)\W*$|^\W*(?:how are you|how'?s it going|how do you do|what'?s up|are you there|anyone there|anybody (?:there|home)|is (?:anyone|anybody|someone) there|really|right|ok|okay|hello|hi)\b[^a-z]*(?:today|doing|there)?\W*$`)
	identityRE = rx(`\b(?:are you|is this|am i (?:talking|speaking|chatting) (?:to|with)) (?:an? |the )?(?:real |actual )?(?:bot|robot|human|person|ai|machine|chat ?bot|computer|automated)\b|\bwho (?:are|am i talking to)(?: you)?\b\s*\?`)
	thanksRE   = rx(`^\W*(?:(?:ok|okay|great|perfect|cool|nice|alright|all right|super|excellent|good|wonderful|fine|got it|sounds good|understood|noted|that'?s all|that is all|no|nope|bye|goodbye|cheers|thanks|thank you|thx|many thanks|a lot|very much|so much|for now|for (?:the|your) (?:help|info|information|answer)|have a (?:nice|good|great) (?:day|evening|weekend)|see you|talk soon|you too|appreciate it|much appreciated)\W*)+$`)
	goodbyeRE  = rx(`^\W*(?:thanks|thank you|thx|many thanks|great|perfect|super|excellent|cool|alright|wonderful)\b`)
	greetingRE = rx(`^\W*(?:hi|hello|hey|good (?:morning|afternoon|evening|day)|greetings|dear \w+|hi there|hello there)\W*$`)
	dontKnowRE = rx(`\b(?:(?:i )?(?:don'?t|do not) (?:really |actually )?(?:know|have (?:a|one|any|that))|no idea|not sure|not (?:yet )?(?:decided|clear|known|defined)|haven'?t (?:decided|thought|set|discussed|got)|hard to say|it depends|depends on|can'?t say|rather not say|prefer not|none yet|not yet|flexible|open-ended|no preference|unclear|to be (?:decided|defined|determined)|tbd)\b`)

	budgetRE    = rx(`\b(?:budget\w*|spend(?:ing)?|afford|set aside|allocat\w+|invest\w*|earmark\w*|ceiling|approved|we have|i have|we'?ve got|can pay|could pay|willing to pay|want to pay|price range|financ\w+|put aside|reserved?|thinking (?:of|about)|tops|max(?:imum)?|at most|up to)\b`)
	notBudgetRE = rx(`\b(?:you(?:r|'re)? (?:charge|price|cost|plan|fee|offer|website|site)\w*|(?:currently|now|today|already|at the moment) (?:we )?pay\w*|(?:we|i) (?:currently |now |already )?pay\b|revenue|turnover|profit|sales|makes?|earns?|salar\w+|wages?|an hour|per hour|hourly|we lose|costs? us|competitor\w*)\b`)
	noBudgetRE  = rx(`\b(?:no (?:fixed |set |real |specific |defined )?budget|budget (?:is|has|was|isn'?t|hasn'?t)(?: been)?(?: not)?(?: yet)? (?:set|decided|fixed|approved|defined|open|unclear|flexible)|(?:don'?t|do not) (?:have|know) (?:a|the|our|any) (?:\w+ )?budget|depends on (?:the|your) price)\b`)

	timelineRE    = rx(`\b(?:start\w*|begin\w*|live|launch\w*|roll(?:ing)? ?out|rollout|ready|in place|need (?:it|this|that|something|one|to)|switch\w*|implement\w*|deadline|decide|decision|timeline|timeframe|plan(?:ning)? to|up and running|running|use it|have it|set up|renew\w*|expires?|introduc\w+|open\w*|move|migrat\w+|go(?:ing)? with|be done|finish\w*|ideally|latest|target\w*|want (?:it|this|to)|as soon|asap|rush|hurry|urgent\w*|time ?line)\b`)
	notTimelineRE = rx(`\b(?:call|meet(?:ing)?|talk|demo|chat|appointment|phone|speak|webinar|reply|answer|get back|hear from|holiday|vacation|invoice|founded|established)\b`)

	needRE     = rx(`\b(?:(?:we|i|they|our \w+)(?:'d|'re|'m| would| are| am| is| really| just| also| urgently| currently| still| do| basically| now)* (?:need|want|look(?:ing)? (?:for|to|at)|like to (?:have|use|get|replace|improve|automate|plan|schedule|manage|reduce|stop|start|move|switch|know if you can)|struggl\w+|search(?:ing)? for|tr(?:y|ying) to|lose|waste|spend(?:ing)? (?:hours|days|too|a lot|so)|us(?:e|ing) (?:excel|spreadsheets?|paper|whatsapp|google|a whiteboard|pen))|looking for|struggl\w+ with|our (?:main |biggest )?(?:problem|pain|challenge|issue) (?:is|with)|(?:problem|trouble|issues?|chaos|mess|headache)s? (?:is|with|in)|want to replace|instead of (?:excel|spreadsheets?|paper)|get rid of|tired of|fed up with|killing (?:me|us)|nightmare|(?:in|with|on) (?:excel|spreadsheets?|paper|google sheets)|by hand|manual(?:ly)?|spreadsheets?|double[- ]book\w*|no-?shows?|outgrown|pain point|keep (?:losing|missing|forgetting))\b`)
	interestRE = rx(`\b(?:interested in|considering|evaluating|comparing|thinking about|saw your|heard (?:about|of) you)\b`)
	notNeedRE  = rx(`\b(?:need|want|like)\b[^.?!]{0,20}\b(?:to (?:know|ask|talk|speak|chat|think|discuss|check|hear|start|decide|go live|be live|have (?:it|this))|discount|human|person|call|price|quote|info|information|details|approval|sign-?off|it (?:by|in|before|asap))\b|\b(?:you|u) (?:need|must|should|have) to\b|\b(?:ignore|disregard|forget) (?:all|any|your|the|previous|every)`)

	// A sentence that gives orders to the assistant is evidence of nothing.
	orderRE = rx(`\b(?:ignore|disregard|forget|override|bypass)\b[^.?!]{0,40}\b(?:instructions?|rules?|prompts?|orders|guidelines|above|restrictions)\b|\bsystem prompt\b|\byou are (?:now|no longer)\b|\b(?:admin|developer|debug|god|jailbreak) mode\b|\b[a-z]+_[a-z_]+\b|\bset (?:the |my |our |its )?(?:budget|stage|value|price|timeline|authority|need|lead|status|priority)\b[^.?!]{0,20}\bto\b|\bmark (?:this|the|my) (?:lead|deal)\b|^\s*(?:system|assistant|user)\s*:`)

	qualifiedStage = rx(`qualif`)
	notQualified   = rx(`\b(?:un|dis|not |to be |pre-?|for )\s?qualif`)
)
