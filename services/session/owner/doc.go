// Package owner carries out what belongs to a session: a legacy client's requests, the conversations with
// servers that they need, the requests of servers to the client, and the events a client may come back for. It
// also holds the ends of stateful servers for modern clients, who have no session of their own, and makes tasks of
// their slow calls (package tasks keeps them). A session has one owner at a time; every write of its state carries
// the owner's epoch, so that the store refuses one who was replaced.
//
// It must not know transports, authentication or gRPC (services/session has that). Start at [Owner].
package owner
