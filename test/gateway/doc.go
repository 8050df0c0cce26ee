// Package gateway tests the gateway together with the session service, in one process but through the front door:
// real HTTP, real servers behind, owners that can be cut off, in memory and on Redis. What is put together is in
// site_test.go; start there.
package gateway
