package bridge

// FreshnessSink is a Sink that is told whether the node can vouch for what it has
// sent the client: not while it may have missed a notification of something that
// the client watches (the bus is lost, or came back and the rows have not been
// looked at again), nor while fetching it fails, nor while a change that it has heard
// of waits to be fetched for longer than a moment.
//
// AddStale is called as the methods of Sink are. It says that n more of the client's
// subscriptions are stale, or -n fewer, perhaps not in the order in which they became so:
// only the sum counts. A client is fresh while the sum is zero, as at first. When a
// subscription is stale no more, every update that it waited for has been pushed. Nothing is
// said of those that Close ends.
type FreshnessSink interface {
	Sink
	AddStale(n int)
}

// staleReason is a set of reasons why a node cannot vouch for a view, which is stale then.
type staleReason uint8

const (
	staleBus     staleReason = 1 << iota // the bus is lost
	staleMissed                          // notifications may have been missed, and it was not fetched since
	staleFailing                         // the last fetch failed
	staleLate                            // it has changed, and was not fetched for a while
)

// addStale counts n more subscriptions of the client that are stale, and tells its sink.
func (c *Client) addStale(n int) {
	if n == 0 {
		return
	}
	c.countStale(n)
	if c.freshness != nil {
		c.freshness.AddStale(n)
	}
}

// countStale is addStale without the sink.
func (c *Client) countStale(n int) {
	now := c.stale.Add(int64(n))
	switch was := now - int64(n); {
	case was == 0 && now != 0:
		c.bridge.counts.stale.Add(1)
	case was != 0 && now == 0:
		c.bridge.counts.stale.Add(-1)
	}
}

// count is how many of its members' subscriptions a view that is stale for such reasons
// makes stale, of each.
func (d staleReason) count() int { return int(min(d, 1)) }

// setStaleLocked changes why the view is stale, and tells its members' clients
// if that makes a difference.
func (v *view) setStaleLocked(d staleReason) {
	n := d.count() - v.stale.count()
	v.stale = d
	if n == 0 {
		return
	}
	for _, sub := range v.members {
		sub.client.addStale(n)
	}
}
