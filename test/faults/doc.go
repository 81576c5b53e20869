// Package faults breaks a running system in the ways that systems break, and
// checks that Entity Sync keeps its promises.
//
// Everything is real: nsqd, PostgreSQL and the nodes are processes, which are
// killed, frozen and cut off, and the clients hold WebSockets. Clients report
// every row they get to a checker, which knows what must hold:
//
//   - INV1: when the fault is over, each client's last row of each of its keys is
//     the one that it may read in the database.
//   - INV2: the rows of a key never go backwards on a connection.
//   - INV3: nobody gets a row that was fetched for somebody else.
//   - INV4: after a change of the secret has taken effect, nothing of the old one
//     arrives. The classic wire does not say when that is, so it is taken to be at
//     the first row of the new one.
//   - INV6: a node's memory, goroutines and open files are bounded, and are back
//     where they were when the clients have left.
//   - INV7: clients that have nothing to do with the fault are not held up.
//   - INV8: no process ends, panics or has a data race, and no log shows a secret.
//
// INV5, that a client is told when its rows may be out of date, needs a wire that
// can say so. The classic one cannot, so it is not checked here.
//
// The tests are named after the faults. By default they are small; -faults.full
// runs them at their full size. All that is random in them comes from
// -faults.seed, and a test that fails says how to repeat it.
package faults
