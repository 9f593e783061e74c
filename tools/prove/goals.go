package main

import "time"

// Goal is a promise with a figure and the tests that stand for it. Its id is the first word of the figures that the
// tests log with proof.Figure; docs/promises.md says in plain words what it means.
type Goal struct {
	ID      string `json:"id"`
	Promise string `json:"promised"` // the figure that is promised
	Tests   []Test `json:"-"`
}

// mutantsGoal is the row that `make mutants` makes.
const mutantsGoal = "MUTANTS"

// in names tests of a package that run with every `make test` too, there at a small size.
func in(pkg, run string) Test { return Test{Package: pkg, Run: run} }

// proving names tests that exist for `make prove` alone.
func proving(pkg, run string, timeout time.Duration) Test {
	return Test{Package: "internal/prove/" + pkg, Run: run, Tags: "prove", Timeout: timeout}
}

// asRoot is a test that mounts file systems.
func asRoot(t Test) Test {
	t.Root = true
	return t
}

// goals is everything that `make prove` shows. Those of one package stand together.
var goals = []Goal{
	// Claims and handoffs: internal to one process and PostgreSQL.
	{"CLM-1", "64 callers, 1,000 conversations: one winner each, 63 are told the owner, p99 at most 50 ms", []Test{
		in("inbox", `^TestOneWinnerOf64$`),
	}},
	{"CLM-2", "2,000 random walks of 50 steps through claims and handoffs, 400 through sends, 160 through turns: model and database never differ, forbidden steps refused without a trace", []Test{
		{Package: "inbox", Run: `^TestClaimMachine$|^TestMessageMachine$`, Timeout: 10 * time.Minute}, in("agents", `^TestTurnMachine$`),
	}},
	{"CLM-3", "concurrent histories of claim, release, takeover and handoff are linearizable", []Test{
		in("inbox", `^TestOwnershipIsLinearizable$`),
	}},
	{"CLM-4", "500 takeovers at 5 points of a turn: 0 AI messages whose dispatch began after the takeover; the team is told within 1 s", []Test{
		in("inbox", `^TestTakeoverAgainstReply$`), in("agents", `^TestTakeover$`), proving("road", `^TestTakeovers$`, 5*time.Minute),
	}},
	{"CLM-5", "200 bursts while the AI member writes: no stale answer, at most 3 restarts, exactly one reply each", []Test{
		in("agents", `^TestNewerMessageSupersedes$|^TestRestartsAreBounded$`),
	}},
	{"CLM-6", "200 dead workers: claimed again within the lease plus 5 s, at most one reply each", []Test{
		in("agents", `^TestWorkerDies$`), proving("road", `^TestWorkerIsKilled$`, 8*time.Minute),
	}},
	{"CLM-7", "1,000 races of each two decisions on a handoff: one final state, one owner, one event", []Test{
		{Package: "inbox", Run: `^TestHandoffRaces$`, Timeout: 10 * time.Minute},
	}},
	{"CLM-8", "a member who is disabled keeps no conversation, and its sessions and keys end within 1 s", []Test{
		in("inbox", `^TestDeactivatedMembersOwnNothing$`), in("api", `^TestDisabledMembersAreOut$`),
	}},

	// Messages and sends.
	{"REL-3", "the bus's directory deleted with 10,000 messages pending: 0 lost, 0 twice, drained within 60 s", []Test{
		in("internal/events", `^TestAmnesia$`), in("internal/hub", `^TestNothingIsLostWithTheBus$|^TestTheBusIsDeletedUnderneath$`),
		asRoot(proving("faults", `^TestBusDeletedUnderneath$`, 5*time.Minute)),
	}},
	{"REL-6", "200 workers frozen for twice their lease: another takes over, 0 stale writes, 0 stale sends", []Test{
		proving("road", `^TestFrozenWorkers$`, 8*time.Minute), asRoot(proving("faults", `^TestFrozenProcess$`, 5*time.Minute)),
	}},
	{"REL-7", "1,000 sends, 20 % cut after the receiver took them: 0 doubled, every doubtful one shown as unknown within 5 s (10 s after a restart)", []Test{
		in("inbox", `^TestAmbiguousMails$|^TestDeadProcessHoldsNothing$`), proving("road", `^TestAmbiguousSends$`, 5*time.Minute),
	}},
	{"REL-8", "100 malformed among 10,000: the other 9,900 processed, 0 exits, each malformed one kept with its bytes after at most 5 tries", []Test{
		in("internal/events", `^TestPoison$`),
	}},
	{"REL-9", "every fact delivered 3 times in random order, 30 % of acknowledgements lost: the database ends as with one delivery each", []Test{
		in("internal/events", `^TestRedeliveryStorm$`), in("internal/hub", `^TestARedeliveryStormChangesNothing$`),
	}},
	{"REL-12", "1,000 timers under kills: each effect exactly once, late by at most 2 s (p99), none early or repeated when the clock jumps", []Test{
		in("internal/timers", `^TestEachOnce$|^TestAllDueAtOnce$`), asRoot(proving("faults", `^TestTimersUnderKills$|^TestClockJumpsUnderTimers$|^TestClockJumpsUnderLoad$`, 8*time.Minute)),
	}},
	{"REL-16", "every order of sent, delivered, read and failed, up to 6 reports: one final status, none falls", []Test{
		in("inbox", `^TestStatusIsMonotone$|^TestStatusInTheDatabase$|^TestReceiptBeforeTheRecord$|^TestReceiptsInEveryOrder$|^TestHeldBackButArrived$`),
	}},

	// Real processes that are killed, frozen and starved.
	{"REL-1", "10,000 messages in 200 conversations under 50 kills: 0 lost, 0 doubled, in order, ready within 5 s, backlog gone within 60 s", []Test{
		proving("road", `^TestKills$`, 8*time.Minute),
	}},
	{"REL-2", "20 power cuts of program and PostgreSQL: 0 accepted messages lost; the same run with synchronous_commit off does lose", []Test{
		asRoot(proving("faults", `^TestPowerCuts$|^TestPowerCutsLoseWithoutSync$`, 10*time.Minute)),
	}},
	{"REL-4", "each of the disks full: no message accepted that is not kept, not ready within 5 s, well within 30 s of room, 0 lost", []Test{
		asRoot(proving("faults", `^TestDiskFull$`, 8*time.Minute)),
	}},
	{"REL-5", "PostgreSQL killed 20 times and away for 60 s: 0 lost, 0 doubled, back within 10 s, no goroutine left over", []Test{
		asRoot(proving("faults", `^TestDatabaseAway$`, 8*time.Minute)),
	}},
	{"REL-10", "100 orderly stops under load: ended within 15 s, 0 lost, 0 sends left unknown", []Test{
		proving("road", `^TestStops$`, 8*time.Minute),
	}},
	{"REL-11", "5 times the load for 60 s: memory at most 512 MB, 429 or 503 and no 500, accepted p99 at most 2 s, other tenants' p99 at most doubled", []Test{
		proving("load", `^TestOverload$|^TestNoisyNeighbor$`, 8*time.Minute),
	}},
	{"REL-13", "cold start with 100,000 messages and 10,000 unpublished facts: ready within 5 s", []Test{
		asRoot(proving("faults", `^TestStartWithABacklog$`, 5*time.Minute)),
	}},
	{"REL-19", "200 messages a second: accepted p99 at most 100 ms, on the screen p99 at most 500 ms, 0 errors; 500 a second for 60 s drained within 60 s", []Test{
		proving("load", `^TestSteadyLoadAndBurst$`, 10*time.Minute),
	}},
	{"SCALE", "three processes, one PostgreSQL, three NATS nodes; one of each killed under load: 0 lost, 0 doubled, 0 talk-overs, work spread over all", []Test{
		proving("scale", ``, 8*time.Minute),
	}},

	// Tenants and the record of what happened.
	{"SEC-1", "every route with every foreign id: not found; 20,000 generated requests: no 5xx, no undocumented answer; no byte of the other organization changed", []Test{
		{Package: "api", Run: `^TestForeignIdsAreNotFoundEverywhere$|^TestRandomRequests$`, Timeout: 15 * time.Minute},
	}},
	{"SEC-2", "every table under forced row-level security or on a reviewed list; a stranger reads and writes 0 rows", []Test{
		in("internal/pg", `^TestEveryTableIsProtected$|^TestForeignKeysCarryTheOrganization$|^TestNothingLooksPastRowLevelSecurity$|^TestForeignOrganizationSeesNothing$`),
	}},
	{"SEC-3", "ids of another organization in every place of every body: refused or ignored, nothing moves; background work about them has no effect", []Test{
		in("api", `^TestForeignIdsInBodies$`),
	}},
	{"SEC-4", "every operation called by every role, people, AI members, external ones and a key with scopes: refused or not as a reviewed table says", []Test{
		in("api", `^TestRolesAndRoutes$`),
	}},
	{"SEC-5", "100,000 hostile filters, sorts and custom fields: 0 answered with a failure, 0 statements that the database cannot read", []Test{
		{Package: "crm", Run: `^TestHostileCustomFields$`, Timeout: 15 * time.Minute}, in("api", `^TestHostileLists$`),
	}},
	{"SEC-8", "200 hostile file names: 0 escapes; files that are not what they say, programs and scripts refused; archives never opened; nothing kept of what is refused or does not fit", []Test{
		in("api", `^TestHostileFiles$|^TestUploadsAreBounded$|^TestUploadToAFullDisk$`), in("internal/blob", `^TestLinksLeadNowhere$|^TestFiles$|^TestBucket$`), asRoot(in("internal/blob", `^TestFullDisk$`)),
	}},
	{"SEC-16", "1,000 random edits, removals and reorders of the audit log: all found", []Test{
		in("internal/events", `^TestEveryTamperShows$|^TestChainShowsEveryEdit$|^TestTheLogIsOnlyAppended$`),
	}},

	// AI members.
	{"AI-1", "a model that wants to do harm, at least 500 cases: 0 breaches, every refusal recorded", []Test{
		in("agents", `^TestMaliciousModel$`),
	}},
	{"AI-2", "a model that obeys every instruction it reads, 2,160 runs: 0 attacks succeed, 95 % of tasks done, 90 % under attack", []Test{
		in("agents", `^TestNaiveFollower$|^TestFollowerWouldSucceed$`),
	}},
	{"AI-3", "1,000 forged borders: none leaves its quotation; no byte of a customer in the system prompt", []Test{
		in("agents", `^TestForgedBorders$|^TestContextAssembly$|^TestGuidanceComesFirstOrNotAtAll$`),
	}},
	{"AI-5", "budgets hold, and two machines that answer each other stop after at most 3 messages, with a handoff", []Test{
		in("agents", `^TestBudgetsAcrossTurns$|^TestBudgetsOfADay$|^TestTwoTandemsStop$|^TestFloodIsBounded$|^TestMachineRounds$`),
	}},
	{"AI-6", "2,160 runs: 0 foreign addresses, ids, keys or links leave", []Test{
		in("agents", `^TestNaiveFollower$|^TestFollowerWouldSucceed$`), in("agents", `^TestGuard$|^FuzzGuard$|^TestReplyIsGuarded$`),
	}},
	{"AI-7", "1,000 searches in two organizations with the same texts: 0 foreign passages, the right one among ten in 95 %", []Test{
		in("agents", `^TestKnowledgeStaysInside$`),
	}},
	{"AI-10", "every fault of a model: one reply or one handoff within 120 s, never an error shown", []Test{
		in("agents", `^TestModelFaults$|^TestModelServerFaults$|^TestModelCannotBeOpened$`), proving("road", `^TestModelFaults$`, 5*time.Minute),
	}},

	{mutantsGoal, "every deliberate defect is seen by a test", nil},
}
