// Package catalog is a process's copy of what the registry publishes: the servers, what they offer, and the
// views on them. A [Catalog] never changes; a [Follower] holds the newest one. The same version gives the same
// names, order and bytes in every process. It must not know clients, sessions or transports. Start at [New].
package catalog
