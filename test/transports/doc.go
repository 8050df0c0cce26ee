// Package transports holds one suite of a client's behaviour, run over every transport and every revision that it
// has, against servers of each era. Gateway and owner run inside the test, so that the race detector sees them.
// Start at TestEveryTransport.
package transports
