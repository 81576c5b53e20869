package load

import "testing"

func TestAnswers(t *testing.T) {
	for _, test := range []struct {
		wire    Wire
		message string
		answers int
		pings   bool
		refused bool
	}{
		{wire: Silent, message: `{"action":"ack","ref":1}`, answers: 1},
		{wire: Silent, message: `{"action":"update","body":{}}`},
		{wire: V2, message: `{"action":"ack","ref":1}`, answers: 1},
		{wire: V2, message: `{"action":"update","body":{"entity":"items","id":"7","version":"v","rows":[{}]}}`, answers: 1},
		{wire: V2, message: `{"action":"current","body":{"entity":"items","id":"7","version":"v"}}`, answers: 1},
		{wire: V2, message: `{"action":"stale"}`},
		{wire: V2, message: `{"action":"error","ref":1,"body":{"code":"unavailable"}}`, refused: true},
		{wire: CentrifugeWire, message: `{"id":1,"connect":{}}` + "\n" + `{"id":2,"subscribe":{}}`, answers: 2},
		{wire: CentrifugeWire, message: `{"push":{"channel":"7","pub":{"data":{}}}}`},
		{wire: CentrifugeWire, message: `{}`, pings: true},
		{wire: CentrifugeWire, message: `{"push":{"channel":"7","pub":{"data":{}}}}` + "\n{}", pings: true},
		{wire: CentrifugeWire, message: `{"id":2,"error":{"code":106}}`, refused: true},
	} {
		answers, err := test.wire.count([]byte(test.message))
		if refused := err != nil; refused != test.refused || !refused && answers != test.answers {
			t.Errorf("%s, %s: %d answers, %v", test.wire, test.message, answers, err)
		}
		if pings := test.wire.pings([]byte(test.message)); pings != test.pings {
			t.Errorf("%s, %s: a ping is %v", test.wire, test.message, pings)
		}
	}
	key, version, ok := V2.version([]byte(`{"action":"update","body":{"entity":"items","id":"7","version":"v","rows":[{}]}}`))
	if key != 7 || version != "v" || !ok {
		t.Errorf("version %q of key %d, %v", version, key, ok)
	}
}
