// Package testkit is what the tests of several packages have in common. It knows nothing
// of the product, so that every package's tests can use it. Beside it are:
//
//   - docs: the examples and tables of the documentation
//   - socket: a WebSocket client that a test plays
//   - nodetest: nodes in the test's process
//   - process: a part of the system as a process of its own
//   - internal/canary: the mark in the secrets of tests, and where their output goes
//   - internal/pgtest: PostgreSQL and PgBouncer
//   - internal/freeport: addresses at which nothing listens
//   - internal/clienttest: nodes behind a front that fails as a network does, for clients
//   - test/internal/nsqdtest: nsqd and nsqlookupd, for the module test
//   - test/chromium: a headless Chromium and its tabs, for the modules test and example
package testkit
