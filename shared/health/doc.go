// Package health answers whether a process lives, may get requests, and how its dependencies do, for probes, load
// balancers and operators. It must not know what it watches: each [Condition] is a function. Start at [New].
//
// Checks run in the background, one at a time per condition; requests only read the last outcome, so no number of
// probes reaches a dependency. Answers are public, hence an error's text is shown only where its author made it for
// the public with [Reason]; the rest goes to the log.
package health
