// Package registry is the registry service: the truth about servers and what they offer, views, and API keys. It
// answers gRPC over a store, asks servers what they offer, and publishes every change to those who watch. It must not
// know clients, sessions or transports, nor how servers are reached: discovery.Discoverer does.
//
// Its parts: store keeps (SQLite for one process, Postgres for several), discovery asks, lead lets one of several
// replicas discover, watch publishes. Any replica takes calls; what one accepted is in the store before it answers,
// and reaches the watchers of all. Start at [New].
package registry
