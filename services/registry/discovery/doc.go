// Package discovery finds out what servers offer, when that changes, and whether they live: it asks them, writes what
// came of it to the store, and asks again when they say that something changed, and from time to time. It must not know
// how servers are reached ([Discoverer] does), nor gRPC. Start at [Discovery.Refresh], which asks one server, and
// [Discovery.Run], which keeps asking all; each server has a loop of its own there, so that none waits for another.
package discovery
