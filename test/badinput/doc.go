// Package badinput sends a running node what no polite client sends, and checks
// what it answers, what that costs it, and that nobody else notices.
//
// The node is a process of its own, on a real nsqd, so that its memory and its
// time on the processor are its alone, and everything that it ever wrote can be
// searched. Hostile clients speak over plain TCP: a WebSocket library would be too
// polite. Each test is named after a row of docs/security.md, and shows
//
//   - the answer: the close code, the error code or the status, and that the
//     session goes on where it is said to;
//   - that the bystanders, v2 clients of the same node, get every change, end with
//     the right rows, and wait hardly longer than without the abuse;
//   - the bounds: the node's memory for each hostile connection, its time on the
//     processor for each hostile frame, the lines of its log; and that the log
//     shows nothing of what was sent.
//
// With -v each test logs the figures of its row.
package badinput
