// Package testkit gives tests what they must not fake: real Redis and Postgres servers of their own, a free
// port, a logger that ends with its test, and the one way to wait for something that tells no one when it
// happens. It must not know any of our services. Only tests and test launchers import it.
//
// Start at [Redis], [Postgres] and [Eventually]; launchers of whole clusters use [StartRedis] and
// [StartPostgres], whose [Server] can be killed, frozen and started again.
//
// A missing redis-server or postgres is installed with apt-get where that can be done (root, and
// ERLMCP_TEST_INSTALL is not 0); otherwise the test fails with the command to run. Tests are never skipped.
package testkit
