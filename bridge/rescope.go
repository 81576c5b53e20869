package bridge

import (
	"sync"

	"github.com/entity-sync/entity-sync/shared"
)

// A scope function may answer out of memory, and its answer may change, for example when a user
// moves to another tenant. The engine therefore asks again what it asked when a member joined.
// It asks about the secret of a fetch when the fetch begins and when the result is there, so
// that the rows are rows of the view's scope. It asks about each member when the result is
// there, because the member may have moved meanwhile.

// sees reports whether the holder of a secret sees with the view's scope, as the scope function
// says now. If the function gives another answer each time, the secret is a scope of its own:
// otherwise the member would move for ever. sees calls the application, so no lock may be held.
func (v *view) sees(secret shared.Secret) (s scope, same bool) {
	if v.entity.isStill(v.scope(), secret) {
		return v.scope(), true
	}
	s = v.entity.scopeOf(secret)
	if s != v.scope() && s.shared && v.entity.scopeOf(secret) != s {
		s = scope{value: secret}
	}
	return s, s == v.scope()
}

// isStill is the quick part of sees: it makes no scope of the function's answer.
func (e *entity) isStill(s scope, secret shared.Secret) (same bool) {
	defer func() {
		if recover() != nil {
			same = false // scopeOf says so in the log
		}
	}()
	return s.shared && e.options.Scope(secret.Reveal()) == s.value.Reveal()
}

// noteRescoped notes which of the jobs have a secret that does not see with the job's view's
// scope now. It is for the parts of a batch that failed. The parts run one after the other, so
// a scope may change for some of them and change back before all are done.
func (e *entity) noteRescoped(jobs []fetchJob, rescoped []bool) {
	if e.options.Scope == nil {
		return
	}
	for i, job := range jobs {
		if _, same := job.view.sees(job.secret); !same {
			rescoped[i] = true
		}
	}
}

// begin takes the view from queued to fetching, with a secret that has the view's scope now.
// Members that have another scope move. begin returns false where beginWith does.
func (v *view) begin() (job fetchJob, ok bool) {
	for {
		secret := v.askFirst()
		job, ok, changed := v.beginWith(secret)
		if !changed {
			return job, ok
		}
	}
}

// askFirst returns the secret of the first member that sees with the view's scope.
func (v *view) askFirst() shared.Secret {
	for {
		sub, secret := v.first()
		if sub == nil || v.entity.options.Scope == nil {
			return secret
		}
		s, same := v.sees(secret)
		if same {
			return secret
		}
		sub.client.rescope(sub, v, secret, s)
	}
}

// first returns nil if the view has no member.
func (v *view) first() (*subscription, shared.Secret) {
	v.lock()
	defer v.unlock()
	if len(v.members) == 0 {
		return nil, shared.Secret{}
	}
	return v.members[0], v.members[0].secret
}

// member is a subscription and the secret that it had when the view was looked at.
type member struct {
	sub    *subscription
	secret shared.Secret
}

// memberLists are used over and over, so that a result for many allocates nothing.
var memberLists = sync.Pool{New: func() any { return new([]member) }}

// ask moves the members that have another scope by now. It reports whether the result of a
// fetch is for the view: false means that the secret of the fetch has another scope.
func (v *view) ask(job fetchJob) (ours bool) {
	if v.entity.options.Scope == nil {
		return true
	}
	answered := false
	defer func() {
		if !answered { // the scope function has ended its goroutine
			v.fail(job)
		}
	}()
	list := memberLists.Get().(*[]member)
	defer func() {
		clear(*list)
		*list = (*list)[:0]
		memberLists.Put(list)
	}()
	*list = v.appendMembers(*list)
	last := job.secret // clients often share one
	s, same := v.sees(last)
	ours = same
	for _, m := range *list {
		if m.secret != last {
			last = m.secret
			s, same = v.sees(last)
		}
		if !same {
			m.sub.client.rescope(m.sub, v, last, s)
		}
	}
	answered = true
	return ours
}

// appendMembers notes the members that are asked about. A member that joins later is not asked
// about, and needs another fetch, as in state delivering.
func (v *view) appendMembers(list []member) []member {
	v.lock()
	defer v.unlock()
	before := v.state
	v.state = delivering
	v.becameLocked(before, eventAnswered)
	for _, sub := range v.members {
		sub.asked = true
		list = append(list, member{sub, sub.secret})
	}
	return list
}

// isAsked reports whether a member may be handed the result that is there.
func (v *view) isAsked(sub *subscription) bool {
	return sub.asked || v.entity.options.Scope == nil
}

// rescope moves a subscription from a view to the view of its secret's present scope, unless
// the client has moved on.
func (c *Client) rescope(sub *subscription, from *view, secret shared.Secret, s scope) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.secret != secret || c.subs.Get(from.key()) != sub || sub.view != from {
		return
	}
	from.entity.index.move(sub, s, secret)
}

// startOver owes the view another fetch, because the result was of another scope. The fetch is
// queued at once. If the same has happened to the fetch before, the view backs off as after a
// failure, so that a scope function that never gives the same answer twice does not keep the
// database busy.
func (v *view) startOver(job fetchJob) {
	if !v.queueAgain(job) {
		v.fail(job)
	}
}

func (v *view) queueAgain(job fetchJob) bool {
	v.lock()
	defer v.unlock()
	if e := v.pendingLocked(); len(v.members) == 0 || e.failures > 0 || v.entity.bridge.ctx.Err() != nil {
		return false
	}
	v.pending.failures++
	v.owed |= job.cause
	before := v.state
	v.queueLocked(v.payerLocked())
	v.becameLocked(before, eventRescoped)
	return true
}
