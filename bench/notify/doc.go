// Package notify measures what it costs to announce a change, and to hear of one
// that concerns nobody here, through a real nsqd: scenarios S6 and S7 of
// bench/README.md.
//
// Three processes take part: the one that measures, an nsqd, and the subject, which
// is started anew for each figure, and makes its own load. A subject is a node of
// Entity Sync, its bus alone, or go-nsq's own Producer and Consumer; each tells the
// processor time that the operating system has counted for its process.
package notify

import "github.com/entity-sync/entity-sync/bench/measure"

// Scenarios returns S6 and S7.
func Scenarios() []measure.Scenario {
	return []measure.Scenario{
		{
			Name:      "S6",
			Work:      "100,000 notifications a second of keys that nobody watches, each node with 10,000 others watched",
			Reference: goNSQ,
			Goals:     []measure.Goal{{Subject: node, Metric: cpuBeyond, Max: 1}},
			Run:       runUnwatched,
		},
		{
			Name:      "S7",
			Work:      "announcing changes through one nsqd to one node",
			Reference: mpub,
			Goals: []measure.Goal{
				{Case: distinct, Subject: node, Metric: keysASecond, Ratio: true, Min: 3},
				// Each call waits for the message under way, if there is one, and for the next.
				{Case: hot, Subject: node, Metric: messagesPerKey, Max: 2. / 64},
				{Case: hotter, Subject: node, Metric: messagesPerKey, Max: 2. / 1024},
				{Subject: node, Metric: heardLater, Max: 100},
			},
			Run: runAnnouncing,
		},
	}
}
