package scenario

import "github.com/entity-sync/entity-sync/bench/measure"

// Scenarios returns all scenarios of this package.
func (s Suite) Scenarios() []measure.Scenario {
	return []measure.Scenario{s.fanOut(), s.idle(), s.ownKeys(), s.hotKey(), s.viewers(), s.reconnects(), s.slowReaders()}
}
