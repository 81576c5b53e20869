package faults

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/web/wire"
)

// dialogue is a v2 client that is fed by hand.
type dialogue struct {
	*session
	refs int
}

// ask sends a request and does not get its ack.
func (d *dialogue) ask(action shared.Action, identity string) {
	d.refs++
	d.asks(&request{ref: d.refs, action: action, identity: identity, keys: map[shared.EntityKey]bool{key(items, "1"): true}})
}

func (d *dialogue) say(action string, about string) {
	d.hears(frame{Reply: wire.Reply{Action: wire.Action(action), Key: key(items, "1"), Version: about}}, row{})
}

func (d *dialogue) ack(ref int) { d.hears(frame{wire.Reply{Action: wire.ActionAck}, ref}, row{}) }

func (d *dialogue) row(r row) {
	b, err := json.Marshal(r)
	if err != nil {
		panic(err)
	}
	d.hears(frame{Reply: wire.Reply{Action: wire.ActionUpdate, Key: key(items, "1"), Version: fmt.Sprint(r.Rev, r.For), Rows: [][]byte{b}}}, row{})
}

// begins is a dialogue of somebody who has said who she is and subscribed.
func begins(c *checker) *dialogue {
	d := &dialogue{session: c.openV2(c.watch("ann", []shared.EntityKey{key(items, "1")}), "node")}
	d.ask(shared.ActionSecret, "ann.0")
	d.ask(shared.ActionSubscribe, "")
	d.ack(1)
	d.ack(2)
	return d
}

// passes lets time pass in which all that she asks is answered.
func (d *dialogue) passes(long time.Duration) {
	for range long / askEvery {
		d.answered(time.Now())
		time.Sleep(askEvery)
	}
}

var annsRow = row{Entity: items, ID: "1", For: "ann.0", Nonce: 1, Rev: 1}

func revised(rev int64) row { r := annsRow; r.Rev = rev; return r }

func TestTheCheckerFindsBreachesOfV2(t *testing.T) {
	next := annsRow
	next.For = "ann.1"
	for name, tt := range map[string]struct {
		tell func(*dialogue)
		want string // empty for no breach
	}{
		"rows in order":        {func(d *dialogue) { d.row(annsRow); d.row(revised(2)); d.say("delete", "") }, ""},
		"a step back":          {func(d *dialogue) { d.row(revised(2)); d.row(annsRow) }, "INV2"},
		"a row of another one": {func(d *dialogue) { d.row(next) }, "INV3"},
		"a row before the ack": {func(d *dialogue) {
			d.ask(shared.ActionUnsubscribe, "")
			d.ack(3)
			d.ask(shared.ActionSubscribe, "")
			d.row(annsRow)
		}, "INV4"},
		"a row until the ack of the end": {func(d *dialogue) { d.ask(shared.ActionUnsubscribe, ""); d.row(annsRow); d.ack(3) }, ""},
		"a row after it":                 {func(d *dialogue) { d.ask(shared.ActionUnsubscribe, ""); d.ack(3); d.row(annsRow) }, "INV4"},
		"a deletion after it":            {func(d *dialogue) { d.ask(shared.ActionUnsubscribe, ""); d.ack(3); d.say("delete", "") }, "INV4"},
		"a row after the node ended it":  {func(d *dialogue) { d.say("unsubscribed", ""); d.row(annsRow) }, "INV4"},
		"the old secret's row until the ack": {func(d *dialogue) {
			d.ask(shared.ActionSecret, "ann.1")
			d.row(annsRow)
			d.ack(3)
			d.row(next)
		}, ""},
		"the old secret's row after it":      {func(d *dialogue) { d.ask(shared.ActionSecret, "ann.1"); d.ack(3); d.row(annsRow) }, "INV4"},
		"the new secret's row before it":     {func(d *dialogue) { d.ask(shared.ActionSecret, "ann.1"); d.row(next) }, "INV4"},
		"an ack of nothing":                  {func(d *dialogue) { d.ack(3) }, "INV8"},
		"an ack out of order":                {func(d *dialogue) { d.ask(shared.ActionSubscribe, ""); d.ask(shared.ActionSubscribe, ""); d.ack(4) }, "INV8"},
		"one version of two rows":            {func(d *dialogue) { r := revised(2); r.Nonce = 2; d.row(revised(2)); d.row(r) }, "INV8"},
		"word that what she has not is best": {func(d *dialogue) { d.say("current", "v") }, "INV8"},
		"stale twice":                        {func(d *dialogue) { d.say("stale", ""); d.say("stale", "") }, "INV5"},
		"fresh from the first":               {func(d *dialogue) { d.say("fresh", "") }, "INV5"},
		"stale and fresh":                    {func(d *dialogue) { d.say("stale", ""); d.say("fresh", "") }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			c := newChecker()
			tt.tell(begins(c))
			wantFound(t, c, tt.want)
		})
	}
}

func wantFound(t *testing.T, c *checker, want string) {
	t.Helper()
	found := strings.Join(c.found(), "\n")
	if (want == "") != (found == "") || !strings.Contains(found, want) {
		t.Errorf("the checker found %q, want %q", found, want)
	}
}

func TestTheCheckerFindsWhoIsLeftInTheDark(t *testing.T) {
	update := writeRequest{Do: update, Key: key(items, "1")}
	for name, tt := range map[string]struct {
		tell func(c *checker, d *dialogue)
		want string
	}{
		"behind for a moment": {func(c *checker, d *dialogue) {
			c.wrote(update, written{Nonce: 1, Rev: 2})
			d.passes(noticeWithin - time.Second)
			c.listen()
		}, ""},
		"behind for long": {func(c *checker, d *dialogue) {
			c.wrote(update, written{Nonce: 1, Rev: 2})
			d.passes(noticeWithin + time.Second)
			c.listen()
		}, "INV5"},
		"behind for long, in which nothing is answered": {func(c *checker, d *dialogue) {
			c.wrote(update, written{Nonce: 1, Rev: 2})
			time.Sleep(time.Minute)
			c.listen()
		}, ""},
		"behind, and another change just now": {func(c *checker, d *dialogue) {
			c.wrote(update, written{Nonce: 1, Rev: 2})
			d.passes(noticeWithin + time.Second)
			c.wrote(update, written{Nonce: 1, Rev: 3})
			c.listen()
		}, "INV5"},
		"behind and told so": {func(c *checker, d *dialogue) {
			c.wrote(update, written{Nonce: 1, Rev: 2})
			d.say("stale", "")
			d.passes(time.Minute)
			c.listen()
		}, ""},
		"told that it is over, and still behind": {func(c *checker, d *dialogue) {
			c.wrote(update, written{Nonce: 1, Rev: 2})
			d.say("stale", "")
			d.passes(time.Minute)
			d.say("fresh", "")
		}, "INV5"},
		"not announced to everybody": {func(c *checker, d *dialogue) {
			c.wrote(update, written{Nonce: 1, Rev: 2, Error: "no nsqd"})
			d.passes(time.Minute)
			c.listen()
		}, ""},
		"a doubt that is told": {func(c *checker, d *dialogue) {
			doubt := c.doubt("node")
			d.passes(tellWithin - time.Second)
			d.say("stale", "")
			d.passes(time.Minute)
			doubt.end()
		}, ""},
		"one that is told late": {func(c *checker, d *dialogue) {
			doubt := c.doubt("node")
			d.passes(tellWithin + time.Second)
			d.say("stale", "")
			doubt.end()
		}, "INV5"},
		"one that is not told": {func(c *checker, d *dialogue) {
			doubt := c.doubt("node")
			d.passes(tellWithin + time.Second)
			doubt.end()
		}, "INV5"},
		"one in which nothing is ever answered": {func(c *checker, d *dialogue) {
			doubt := c.doubt("node")
			time.Sleep(time.Minute)
			d.say("stale", "")
			doubt.end()
		}, "nothing was answered"},
		"one that is told late, after what was not answered": {func(c *checker, d *dialogue) {
			doubt := c.doubt("node")
			time.Sleep(time.Minute)
			d.passes(time.Second)
			d.say("stale", "")
			doubt.end()
		}, ""},
		"one in which she hangs up": {func(c *checker, d *dialogue) {
			doubt := c.doubt("node")
			d.passes(time.Second)
			d.close()
			d.passes(time.Minute)
			doubt.end()
		}, ""},
		"one of another node": {func(c *checker, d *dialogue) {
			doubt := c.doubt("another")
			d.passes(time.Minute)
			doubt.end()
		}, ""},
		"one that is taken back too early": {func(c *checker, d *dialogue) {
			doubt := c.doubt("node")
			d.say("stale", "")
			d.passes(tellWithin + time.Second)
			d.say("fresh", "")
			doubt.end()
		}, "INV5"},
		"one that is taken back at once, for good": {func(c *checker, d *dialogue) {
			d.say("stale", "")
			doubt := c.doubt("node")
			d.passes(time.Second)
			d.say("fresh", "")
			d.passes(tellWithin)
			doubt.end()
		}, "INV5"},
		"one that begins before the node knows": {func(c *checker, d *dialogue) {
			d.say("stale", "")
			doubt := c.doubt("node")
			d.passes(time.Second)
			d.say("fresh", "")
			d.say("stale", "")
			d.passes(time.Minute)
			doubt.end()
		}, ""},
		"fresh after it, with what was written in it": {func(c *checker, d *dialogue) {
			doubt := c.doubt("node")
			d.say("stale", "")
			c.wrote(update, written{Nonce: 1, Rev: 2, Error: "no nsqd"})
			doubt.end()
			d.row(revised(2))
			d.say("fresh", "")
		}, ""},
		"and without": {func(c *checker, d *dialogue) {
			doubt := c.doubt("node")
			d.say("stale", "")
			c.wrote(update, written{Nonce: 1, Rev: 2, Error: "no nsqd"})
			doubt.end()
			d.say("fresh", "")
			d.row(revised(2))
		}, "INV5"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newChecker()
				d := begins(c)
				d.row(annsRow)
				d.passes(time.Minute)
				tt.tell(c, d)
				wantFound(t, c, tt.want)
			})
		})
	}
}

func TestTheCheckerFindsWhichV2ClientIsBehind(t *testing.T) {
	k := key(items, "1")
	there := row{Entity: items, ID: "1", Nonce: 1, Rev: 2}
	bobs := there
	bobs.Owner = "bob"
	for name, tt := range map[string]struct {
		truth map[shared.EntityKey]row
		tell  func(*dialogue)
		want  string
	}{
		"up to date":                   {map[shared.EntityKey]row{k: there}, func(d *dialogue) { d.row(revised(2)) }, ""},
		"an old row":                   {map[shared.EntityKey]row{k: there}, func(d *dialogue) { d.row(annsRow) }, "has life 1 revision 1"},
		"a row that is gone, told":     {nil, func(d *dialogue) { d.row(annsRow); d.say("delete", "") }, ""},
		"not told":                     {nil, func(d *dialogue) { d.row(annsRow) }, "was not told"},
		"told of one that is there":    {map[shared.EntityKey]row{k: there}, func(d *dialogue) { d.row(revised(2)); d.say("delete", "") }, "was told that items.1 is gone"},
		"forbidden, told":              {map[shared.EntityKey]row{k: bobs}, func(d *dialogue) { d.row(annsRow); d.say("unsubscribed", "") }, ""},
		"forbidden, not told":          {map[shared.EntityKey]row{k: bobs}, func(d *dialogue) { d.row(annsRow) }, "may not see"},
		"sent away from what she sees": {map[shared.EntityKey]row{k: there}, func(d *dialogue) { d.say("unsubscribed", "") }, "not subscribed"},
		"still stale":                  {map[shared.EntityKey]row{k: there}, func(d *dialogue) { d.row(revised(2)); d.say("stale", "") }, "out of date"},
		"a request without an answer":  {map[shared.EntityKey]row{k: there}, func(d *dialogue) { d.row(revised(2)); d.ask(shared.ActionSubscribe, "") }, "waits for the ack"},
	} {
		t.Run(name, func(t *testing.T) {
			c := newChecker()
			tt.tell(begins(c))
			found := strings.Join(c.behind(tt.truth), "\n")
			if (tt.want == "") != (found == "") || !strings.Contains(found, tt.want) {
				t.Errorf("behind: %q, want %q", found, tt.want)
			}
		})
	}
}
