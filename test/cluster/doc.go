// Package cluster starts real programs for tests: erlmcp as one process or as its four roles, upstream servers,
// a load balancer in front of the gateways. What it starts can be stopped, killed, frozen and started again, and
// never outlives the test.
//
// It must not import erlmcp's own packages: what it knows of erlmcp is what an operator knows, flags, environment
// and ports. Redis and Postgres come from erlmcp.dev/shared/testkit.
//
// Start reading at [Start] (any program), [Up] (erlmcp in one process) and [StartCluster] (its roles); which
// environment variables carry what to erlmcp is said in one place, erlmcp.go.
package cluster
