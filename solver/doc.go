// Package solver builds LLB graphs: it finds out what has to run, runs it in
// the right order, and says why. It knows nothing of files, containers and
// registries; those are behind the Worker, and what is kept between builds is
// behind Records.
//
// # Graph
//
// Load turns definitions into one Graph. A vertex is its operation: equal
// operations of several definitions are one vertex, and names, groups and
// capabilities are no part of it. Nothing after Load has to check an index.
//
// # Keys
//
// A vertex has two keys, and a result is recorded under both.
//
//	definition key = op key + of each input: definition key, output
//	content key    = op key + of each input: digest of what the op sees of it
//
// The op key is the op's own (Op.Key). Sources have their content or pinned
// identity in it, so a definition key covers all that a result depends on, and
// is known before anything ran. A hit by definition key therefore needs no
// input at all: whatever is only below a hit is neither looked up nor run.
//
// A definition key misses as soon as anything below the vertex changed. Then
// the inputs are solved, in the same way, and the content key is tried: if the
// inputs came out as they were before, the rebuild ends there (early cut-off).
// To hash inputs is expensive, so it is not done unless the op key is known to
// occur in any content key (BucketOps). The content key of a vertex that ran
// is made in the background, while what uses its results runs already.
//
// A vertex that the user wants to run anew (NoCache) proves nothing by its
// definition, and neither does anything above it. Those are solved from their
// inputs, and found by content where the forced run made the same as before.
//
// # State
//
// One goroutine, the loop of a plan, owns the state of all vertices. What
// takes time (keys of sources, records, jobs, waiting for locks) happens in
// other goroutines, whose number is bounded, and which hand the loop a
// function to call when they are done.
//
//	        the op keys of it and                             the definition
//	        all below it are known       needed               key is found
//	unkeyed ─────────────────────▶ keyed ──────▶ sought ─────────────────▶ done
//	                                               │                        ▲
//	                                               │ not found              │
//	                                               ▼                        │
//	                                             wanted                     │
//	                                               │ all inputs are done    │
//	                                               ▼                        │
//	                 the lock is free            ready                      │
//	           ┌─────────────────────────────────▶ │                        │
//	           │                                   │ a job slot is free     │
//	           │     another build                 ▼     found after all,   │
//	        blocked ◀────────────────────────── running ────────────────────┤
//	           │     has the lock                        by content, or ran │
//	           │                                                            │
//	           └────────────────────────────────────────────────────────────┘
//	                             the other build made it
//
//	any ──▶ failed      the op, its key, or a record returned an error
//	any ──▶ cancelled   something it needs failed, or the build was given up
//
// A vertex goes on from keyed only when its result is needed: targets are, and
// the inputs of what is wanted. One that stays keyed is reported as cached,
// since what uses it was found.
//
// # Order
//
// Sources are keyed first, all at the same time. Of the vertices that are
// ready, the one with the longest way to a target runs first, in terms of the
// durations of the last build; so no job starts while a search is under way
// that may come up with one that is farther from its target. A failure cancels
// what needs the failed vertex; everything else ends well and is recorded.
//
// # Once only
//
// Two vertices of a build with the same definition key (the same context, sent
// twice) are one piece of work. Across builds and processes, a job holds the
// lock of its definition key from before it runs until its result is recorded,
// and looks for the result again once it has the lock. One that finds the lock
// taken gives up its job slot before it waits; since nothing that has a slot
// ever waits for a lock, two builds cannot wait for each other in a circle.
//
// # Reasons
//
// For each named target a record is kept of its last build: the steps with
// their keys, facts, verdicts and durations. As soon as something of a target
// is missing, the new build is compared with it, beside the work. Steps are
// paired by definition key, by op key, by name, by similarity of names, and by
// their place in the graph, in this order; of a pair that differs, the first
// fact or input that does is the reason. Why tells of the last build from its
// record alone. A build in which nothing happened writes no record but the
// first time.
package solver
