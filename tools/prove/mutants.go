package main

import "time"

// mutants are the deliberate defects, each in the product at the place that prevents it: look for mutant.Is.
var mutants = []Mutant{
	// Messages come in.
	{"no-unique-inbound-index", "the database does not refuse the second row of one inbound message", []Test{in("inbox", `^TestIngestDuplicateStorm$`)}},
	{"repeats-by-id-only", "two messages with the same id on two channels are taken for one", []Test{in("inbox", `^TestTheSameIdOnTwoChannels$`)}},
	{"answer-before-commit", "the sender hears that its message is stored before it is", []Test{in("inbox", `^TestNobodyIsAnsweredBeforeTheCommit$`)}},
	{"quarantine-dropped", "what cannot be understood is thrown away", []Test{in("inbox", `^TestQuarantineIsKeptAndTakenUp$`)}},

	// Facts.
	{"publish-before-commit", "a command is on its way before its transaction has committed", []Test{in("internal/events", `^TestNothingIsSaidBeforeTheCommit$`)}},
	{"processed-not-checked", "a fact that comes again is applied again", []Test{in("internal/events", `^TestRedeliveryStorm$`)}},
	{"processed-before-effect", "a fact counts as applied although its effect failed", []Test{in("internal/events", `^TestRedeliveryStorm$|^TestDeadLetters$`)}},
	{"outbox-not-reconciled", "what the bus lost is not published again", []Test{{Package: "internal/events", Run: `^TestAmnesia$`, Timeout: 30 * time.Second}}},
	{"audit-chain-not-linked", "each seal of the audit log stands by itself", []Test{in("internal/events", `^TestChainShowsEveryEdit$`)}},
	{"audit-may-be-edited", "the program's role may change the audit log", []Test{in("internal/pg", ``)}},
	{"ack-before-commit", "the bus hears that a message is done before it is", []Test{in("bus", `^TestVerdicts$`)}},
	{"last-delivery-silent", "what fails for good is dropped without a dead letter", []Test{in("bus", `^TestVerdicts$`), in("internal/events", `^TestDeadLetters$`)}},
	{"timers-fire-twice", "a timer that fired stays", []Test{in("internal/timers", `^TestEachOnce$`)}},

	// Claims and handoffs.
	{"claim-ignores-owner", "a claim succeeds although somebody owns the conversation", []Test{in("inbox", `^TestOneWinnerOf64$`)}},
	{"lease-never-ends", "a dead worker keeps its conversation", []Test{in("inbox", `^TestLeaseOverReleases$`)}},
	{"handoff-accepted-twice", "a handoff that was decided can be decided again", []Test{in("inbox", `^TestHandoffRaces$`)}},
	{"takeover-does-not-cancel", "what an AI member had queued stays queued after a takeover", []Test{in("inbox", `^TestReplyByPerson$`)}},
	{"merged-under-a-turn", "a conversation is merged while an AI member is answering in it", []Test{in("inbox", `^TestMergeWaitsForWhatIsUnderWay$`)}},
	{"disabled-member-keeps-claims", "a member who is disabled keeps its conversations", []Test{in("inbox", `^TestDeactivatedMembersOwnNothing$`)}},

	// Replies and sends.
	{"no-fence-check-in-reply", "an AI member that lost the conversation may still answer", []Test{in("inbox", `^TestReplyByAIMember$`)}},
	{"no-fence-check-in-courier", "an AI message of before the takeover is sent after it", []Test{in("inbox", `^TestCourierHoldsBackAnOlderFence$`)}},
	{"no-fence-check-in-turn", "a turn that lost the conversation goes on with its tools", []Test{in("agents", `^TestTakenOverTurnWritesNothing$`)}},
	{"superseded-answer-sent", "an answer to an older message is sent although the contact wrote again", []Test{in("agents", `^TestNewerMessageSupersedes$`)}},
	{"no-order-in-courier", "a message overtakes the one before it", []Test{in("inbox", `^TestCourierSendsInOrder$`)}},
	{"idempotency-key-ignored", "the same reply under the same key is another message", []Test{in("inbox", `^TestReplyIsIdempotent$`)}},
	{"unknown-is-resent", "what was being sent when the process died is sent again", []Test{in("inbox", `^TestCourierDiesAnywhere$`)}},
	{"ambiguous-is-retried", "a send whose outcome is unknown is tried again", []Test{in("inbox", `^TestCourierOutcomes$`)}},
	{"provider-id-changes", "each attempt has an id of its own at the provider", []Test{in("inbox", `^TestCourierOutcomes$|^TestCourierDiesAnywhere$`)}},
	{"status-may-fall", "a late status lowers an earlier one", []Test{in("inbox", `^TestStatusIsMonotone$`)}},

	// Tenants.
	{"rls-off", "row-level security is off", []Test{in("internal/pg", ``)}},
	{"foreign-404-after-write", "the answer is not found, and the foreign record is changed", []Test{in("api", `^TestForeignIdsAreNotFoundEverywhere$`)}},
	{"ssrf-check-on-name-only", "the address behind a name is not looked at when connecting", []Test{in("internal/egress", `^TestHostileDestinationsNeverReachTheCanary$|^TestSocketDecidesForNames$`)}},

	// AI members.
	{"tool-takes-recipient", "the model may name the lead that a tool writes to", []Test{in("agents", `^TestMaliciousModel$`)}},
	{"budget-ignored", "messages in a row, messages an hour and cost are not counted", []Test{in("agents", `^TestBudgetsAcrossTurns$`)}},
	{"output-not-checked", "links and foreign addresses in an answer are sent", []Test{in("agents", `^TestReplyIsGuarded$`)}},
	{"prompt-border-fixed-nonce", "the borders around quoted text can be guessed", []Test{in("agents/llm", `^TestForgedBordersStayInside$`), in("agents", `^TestForgedBorders$`)}},
}
