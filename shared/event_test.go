package shared_test

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/entity-sync/entity-sync/shared"
)

const plain = `"specversion":"1.0","id":"1","source":"/s","type":"t"`

func TestAnEventIsKeptAsItCame(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		`{` + plain + `}`,
		`{"data":{"a":[1,2.50,{"b":null}],"a ":" x "},` + plain + `}`,
		`{` + plain + `,"meta":{"deep":{"er":[]}},"count":3,"comexampleflag":true,"data":null}`,
		`{` + plain + `,"data_base64":"aGk=","datacontenttype":"text/plain","subject":"ü😀"}`,
		`{` + plain + `,"time":"2018-04-05T17:31:00.123456789+02:00"}`,
		" { " + strings.ReplaceAll(plain, ",", " ,\n\t") + " } ",
	} {
		e, err := shared.ParseEvent([]byte(text))
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		var want, got any
		if json.Unmarshal([]byte(text), &want) != nil || json.Unmarshal(e.JSON(), &got) != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s came out as %s", text, e.JSON())
		}
		if e.ID() != "1" || e.Source() != "/s" || e.Type() != "t" {
			t.Errorf("%s was read as %q, %q, %q", text, e.ID(), e.Source(), e.Type())
		}
		var again shared.Event
		if b, err := json.Marshal(e); err != nil || json.Unmarshal(b, &again) != nil || !reflect.DeepEqual(again, e) {
			t.Errorf("%s is not the same once it was encoded: %s", text, b)
		}
	}
}

func TestWhatIsNoEvent(t *testing.T) {
	t.Parallel()
	without := func(member string) string {
		members := strings.Split(plain, ",")
		kept := members[:0:0]
		for _, m := range members {
			if !strings.HasPrefix(m, `"`+member+`"`) {
				kept = append(kept, m)
			}
		}
		return "{" + strings.Join(kept, ",") + "}"
	}
	for _, text := range []string{
		``, `{`, `[]`, `"x"`, `null`, `{}`, `{` + plain + `}{}`,
		without("specversion"), without("id"), without("source"), without("type"),
		strings.Replace(`{`+plain+`}`, `"1.0"`, `"0.3"`, 1), strings.Replace(`{`+plain+`}`, `"1.0"`, `1.0`, 1),
		strings.Replace(`{`+plain+`}`, `"id":"1"`, `"id":""`, 1), strings.Replace(`{`+plain+`}`, `"id":"1"`, `"id":1`, 1),
		strings.Replace(`{`+plain+`}`, `"id":"1"`, `"id":null`, 1), strings.Replace(`{`+plain+`}`, `"id":"1"`, `"id":"\ud800"`, 1),
		`{` + plain + `,"id":"2"}`, `{` + plain + `,"ID":"2"}`, `{` + plain + `,"x":1,"x":1}`, `{` + plain + `,"x":1,"\u0078":1}`,
		`{` + plain + `,"time":"yesterday"}`, `{` + plain + `,"time":"2018-04-05T7:31:00Z"}`, `{` + plain + `,"time":"2018-04-05T17:31:00,5Z"}`, `{` + plain + `,"time":"2018-04-05T17:31:00+24:00"}`, `{` + plain + `,"time":1.5}`, `{` + plain + `,"time":-1}`, `{` + plain + `,"time":253402300800}`, `{` + plain + `,"time":[]}`,
		`{` + plain + `,"data":1,"data_base64":"aGk="}`, `{` + plain + `,"data_base64":"?"}`, `{` + plain + `,"data_base64":1}`,
		`{` + plain + `,"data":"` + "\xff" + `"}`, `{` + plain + `,"data":` + strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000) + `}`,
		`{` + plain + `,"subject":""}`, `{` + plain + `,"datacontenttype":1}`,
	} {
		if e, err := shared.ParseEvent([]byte(text)); !errors.Is(err, shared.ErrBadEvent) || e.JSON() != nil {
			t.Errorf("%s: %v, want ErrBadEvent", text, err)
		}
	}
}

func TestATimeInSecondsIsSentOnAsText(t *testing.T) {
	t.Parallel()
	e, err := shared.ParseEvent([]byte(`{"time": 1522949460 ,` + plain + `,"data":{"time":1522949460}}`))
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"time":"2018-04-05T17:31:00Z",` + plain + `,"data":{"time":1522949460}}`; string(e.JSON()) != want {
		t.Errorf("it came out as %s, want %s", e.JSON(), want)
	}
	if want := time.Date(2018, 4, 5, 17, 31, 0, 0, time.UTC); !e.Time().Equal(want) {
		t.Errorf("it was read as %v, want %v", e.Time(), want)
	}
}

func TestTheSizeOfAnEvent(t *testing.T) {
	t.Parallel()
	head := `{` + plain + `,"data":"`
	fits := head + strings.Repeat("x", shared.MaxEventBytes-len(head)-2) + `"}`
	if _, err := shared.ParseEvent([]byte(strings.Repeat(" ", 100) + fits)); err != nil {
		t.Errorf("an event of the limit: %v", err)
	}
	if _, err := shared.ParseEvent([]byte(strings.Replace(fits, "x", "xx", 1))); !errors.Is(err, shared.ErrTooLarge) {
		t.Errorf("one byte more: %v, want ErrTooLarge", err)
	}
}

func TestNewEvent(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.FixedZone("", 3600))
	e, err := shared.NewEvent(shared.EventFields{ID: "a", Source: "/b", Type: "c", Time: at, Data: json.RawMessage(`{"d": 1}`)})
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"specversion":"1.0","id":"a","source":"/b","type":"c","time":"2026-01-02T02:04:05.000000006Z","data":{"d":1}}`; string(e.JSON()) != want {
		t.Errorf("it is %s, want %s", e.JSON(), want)
	}
	if string(e.Data()) != `{"d":1}` || !e.Time().Equal(at) {
		t.Errorf("its data is %s, its time %v", e.Data(), e.Time())
	}
	for _, f := range []shared.EventFields{{}, {ID: "a", Source: "b", Type: "c", Data: json.RawMessage("{")}} {
		if _, err := shared.NewEvent(f); !errors.Is(err, shared.ErrBadEvent) {
			t.Errorf("%+v: %v, want ErrBadEvent", f, err)
		}
	}
}

func FuzzParseEvent(f *testing.F) {
	for _, text := range []string{`{` + plain + `}`, `{` + plain + `,"time":5,"data":[{}]}`, `{"\u0069d":"1"}`, `{` + plain + `,"data_base64":"aGk="}`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		e, err := shared.ParseEvent(text)
		if err != nil {
			if !errors.Is(err, shared.ErrBadEvent) && !errors.Is(err, shared.ErrTooLarge) {
				t.Errorf("%v is none of the two errors", err)
			}
			return
		}
		again, err := shared.ParseEvent(e.JSON())
		if err != nil || !reflect.DeepEqual(again, e) {
			t.Errorf("%s is not read as it was written: %v", e.JSON(), err)
		}
	})
}
