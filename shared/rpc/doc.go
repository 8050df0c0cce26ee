// Package rpc is how services talk to each other and to operators: gRPC servers, clients, and the channel between
// services of one process. Whatever way a call takes, it passes the same steps in the same order (see [Server]), so
// a service's code finds a known caller, a request that is valid, and a deadline. The package must not know what
// services do. Start at [NewServer], [Dial], [Local] and [Peers].
package rpc
