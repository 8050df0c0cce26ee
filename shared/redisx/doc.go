// Package redisx is how our services reach Redis: one client for a single server, sentinels or a cluster
// ([New]), its readiness ([Ping]), and Lua scripts kept in files ([Script]). It must not know what is stored.
//
// What must change in one step is changed by one script, and the keys of one script must lie in one hash slot,
// or it fails on a cluster. So every key of one entity carries the entity's id as hash tag, in braces:
// "erlmcp:session:{id}:log". [Script] refuses keys of different tags on every kind of server, so that a mistake
// shows in the first test and not on the first cluster.
package redisx
