// Package store says how the live state of sessions is kept: who owns which session, what the owner must find
// again after a crash, and the events that a client may ask for again. Packages memory (one process) and redis
// (a cluster) implement it; package storetest is the suite that both pass.
//
// It must not know MCP: a session's state and events are bytes that the owner understands.
//
// # Ownership
//
// A session has one owner, a node, and an epoch that grows with each change of owner. Every write names
// the node and the epoch that the writer believes in and fails with [ErrFenced] when either is no longer so; the
// check and the write are one step in the store. So an owner that was paused and replaced can do no harm,
// whatever it still believes.
//
// A node says that it lives by a lease. Another node may claim a session when the owner's lease is gone or the
// owner released it. Reading the lease and claiming are two steps, and need not be one: an owner whose lease
// comes back between them is fenced by the new epoch like any other old owner.
//
// # Time
//
// Leases, ages and idleness are judged by the store's clock, never by the callers'.
//
// # Bytes
//
// Byte slices that are given to a store or got from it must not be changed afterwards. Maps are copied.
//
// Start at [Store].
package store
