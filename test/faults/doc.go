// Package faults breaks a running system in the ways that systems break, and
// checks that Entity Sync keeps its promises.
//
// Everything is real: nsqd, PostgreSQL and the nodes are processes, which are
// killed, frozen and cut off, and the clients hold WebSockets, half of them with
// the classic wire and half with v2. Clients report everything they get to a
// checker, which knows what must hold:
//
//   - INV1: when the fault is over, each client's last row of each of its keys is
//     the one that it may read in the database. A v2 client was told of each that
//     there is none, or that it may not see it.
//   - INV2: the rows of a key never go backwards on a connection.
//   - INV3: nobody gets a row that was fetched for somebody else.
//   - INV4: after a change of the secret has taken effect, nothing of the old one
//     arrives. On v2 that is at the ack, and nothing of a key comes before the ack
//     of its subscription, or after that of its end. The classic wire does not say
//     when it is, so it is taken to be at the first row of the new one.
//   - INV5: a v2 client knows when its rows may be out of date. While a node cannot
//     know of changes, or cannot fetch them, its clients are told within five
//     seconds, and are not told that it is over before it is. A client that was told
//     nothing is not behind for longer than a node may take to notice a loss. The
//     seconds are those in which the node answers the client's pings: while the machine
//     runs neither of them, nobody can tell. The classic wire has no words for this.
//   - INV6: a node's memory, goroutines and open files are bounded, and are back
//     where they were when the clients have left.
//   - INV7: clients that have nothing to do with the fault are not held up.
//   - INV8: no process ends, panics or has a data race, and no log shows a secret.
//
// The tests are named after the faults. By default they are small; -faults.full
// runs them at their full size. All that is random in them comes from
// -faults.seed, and a test that fails says how to repeat it.
package faults
