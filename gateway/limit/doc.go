// Package limit bounds what clients take: how many requests a principal makes in a second, counted over all gateways,
// and how many connections it and all together have at this one. It must not know MCP or transports.
//
// Each principal has a bucket of one second's requests, in Redis where there are several gateways. A gateway takes
// tokens from it in small portions, ahead of need, so that a request costs no round trip: rule 1 of the design. What
// gateways hold unused is the error, at most a portion for each. While Redis is away each gateway counts for itself.
//
// Start at [Limiter.Wait] and [Connections].
package limit
