package es

import (
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/entity-sync/entity-sync/bridge"
	"github.com/entity-sync/entity-sync/bridge/membus"
	"github.com/entity-sync/entity-sync/bridge/nsqbus"
	"github.com/entity-sync/entity-sync/internal/canary"
	"github.com/entity-sync/entity-sync/internal/field"
	"github.com/entity-sync/entity-sync/web"
)

// owned are the fields of parts that the node sets itself.
var owned = map[string]bool{"Bridge.Fetch": true, "Web.Bridge": true}

// Each field of a part reaches the part as it was set, or New refuses it by its name.
func TestEachFieldOfAPartReachesThePart(t *testing.T) {
	for _, part := range []string{"NSQ", "Bridge", "Web"} {
		fields, _ := reflect.TypeFor[Config]().FieldByName(part)
		for i := range fields.Type.NumField() {
			path := part + "." + fields.Type.Field(i).Name
			var c Config
			if part == "NSQ" && path != "NSQ.Addrs" {
				c.NSQAddr = "a:1"
			}
			value := reflect.ValueOf(&c).Elem().FieldByName(part).Field(i)
			fill(t, value)
			p, err := built(c)
			if owned[path] {
				if err == nil || !strings.HasPrefix(err.Error(), "es.Config."+path+": ") {
					t.Errorf("%s, which is the node's own, is set: %v", path, err)
				}
				continue
			}
			if err != nil {
				t.Errorf("%s is set: %v", path, err)
				continue
			}
			if got := partOf(p, part).Field(i); !same(got, value) {
				t.Errorf("%s is set to %v, and its part has %v", path, value, got)
			}
		}
	}
}

// Each field of the top is a part, one of the node's own, or one of a part: then it reaches
// the part, and may not be set in both places.
func TestEachFieldOfTheTopReachesItsPart(t *testing.T) {
	paths := map[string]string{
		"NSQ": "", "Bridge": "", "Web": "", "Outbox": "", // see above, and TestOutboxIsRelayed
		"Mux": "", "Path": "", "DrainDelay": "", "BusKey": "", "Logger": "", // each has a test of its own
		"NSQAddr": "NSQ.Addrs", "Bus": "Bridge.Bus",
		"WSPassThrough": "Web.PassThrough", "OnMessage": "Web.OnMessage",
		"Authenticate": "Web.Authenticate", "VerifySecret": "Web.VerifySecret", "Authorize": "Web.Authorize", "AllowedOrigins": "Web.AllowedOrigins",
	}
	for i, f := range reflect.VisibleFields(reflect.TypeFor[Config]()) {
		path, known := paths[f.Name]
		if !known {
			t.Errorf("nobody says where %s belongs", f.Name)
		}
		if path == "" {
			continue
		}
		var c Config
		fill(t, reflect.ValueOf(&c).Elem().Field(i))
		p, err := built(c)
		if err != nil {
			t.Errorf("%s is set: %v", f.Name, err)
			continue
		}
		part, name, _ := strings.Cut(path, ".")
		if partOf(p, part).FieldByName(name).IsZero() {
			t.Errorf("%s is set, and %s is not", f.Name, path)
		}
		fill(t, reflect.ValueOf(&c).Elem().FieldByName(part).FieldByName(name))
		want := "es.Config." + f.Name + ": is set, and so is " + path + ","
		if _, err := built(c); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s and %s are set: %v", f.Name, path, err)
		}
	}
}

// built is what New makes of a Config before it starts anything.
func built(c Config) (parts, error) {
	c = c.withDefaults()
	err := c.validate()
	if err != nil {
		return parts{}, field.In("es.Config", err)
	}
	p, err := newParts(c)
	return p, field.In("es.Config", err)
}

func partOf(p parts, part string) reflect.Value {
	return map[string]reflect.Value{"NSQ": reflect.ValueOf(p.nsq).Elem(), "Bridge": reflect.ValueOf(p.bridge), "Web": reflect.ValueOf(p.web)}[part]
}

// fill sets v to a value that is not its zero value, and that no validation refuses.
func fill(t *testing.T, v reflect.Value) {
	t.Helper()
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(2 * time.Second))
	case reflect.String:
		v.SetString("a:1")
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(t, v.Index(0))
	case reflect.Func:
		v.Set(reflect.MakeFunc(v.Type(), func([]reflect.Value) []reflect.Value { panic("is not to be called") }))
	case reflect.Interface:
		v.Set(reflect.ValueOf(new(membus.Broker).NewNode())) // the only one is a Bus
	default:
		t.Fatalf("there is no way to set a %s", v.Type())
	}
}

// same reports whether two values are equal, functions by their address.
func same(a, b reflect.Value) bool {
	if a.Kind() == reflect.Func {
		return a.Pointer() == b.Pointer()
	}
	return reflect.DeepEqual(a.Interface(), b.Interface())
}

// A part that has no Logger has the node's, and one that has one keeps it.
func TestTheLoggerIsThePartsToo(t *testing.T) {
	node, own := slog.New(slog.DiscardHandler), slog.New(slog.DiscardHandler)
	p, err := newParts(Config{NSQAddr: "a:1", Logger: node})
	if err != nil || p.nsq.Logger != node || p.bridge.Logger != node || p.web.Logger != node || p.log != node {
		t.Errorf("the node's logger is not the parts': %v", err)
	}
	p, err = newParts(Config{
		NSQ: nsqbus.Config{Addrs: []string{"a:1"}, Logger: own}, Bridge: bridge.Config{Logger: own}, Web: web.Config{Logger: own}, Logger: node,
	})
	if err != nil || p.nsq.Logger != own || p.bridge.Logger != own || p.web.Logger != own || p.log != node {
		t.Errorf("a part's own logger is not its own: %v", err)
	}
}

func TestConfigReachesNSQ(t *testing.T) {
	p, err := newParts(Config{NSQAddr: "a:1, b:2", NSQ: nsqbus.Config{LookupAddrs: []string{"c:3"}, AuthSecret: canary.Mark}})
	if err != nil {
		t.Fatal(err)
	}
	want := nsqbus.Config{Addrs: []string{"a:1", "b:2"}, LookupAddrs: []string{"c:3"}, AuthSecret: canary.Mark}
	if !reflect.DeepEqual(*p.nsq, want) {
		t.Errorf("nsqbus.Config is %+v, want %+v", *p.nsq, want)
	}
	// One kind of address alone is enough.
	for _, c := range []Config{{NSQAddr: "a:1"}, {NSQ: nsqbus.Config{Addrs: []string{"a:1"}}}, {NSQ: nsqbus.Config{LookupAddrs: []string{"c:3"}}}} {
		p, err := newParts(c)
		if err != nil {
			t.Fatal(err)
		}
		bus, err := p.newBus("")
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := bus.(*nsqbus.Bus); !ok {
			t.Errorf("%+v is a %T, want NSQ", c, bus)
		}
		if err := bus.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

func TestOptionsReachTheEngine(t *testing.T) {
	set, err := settingsOf([]Option{
		WithScope(func(string) string { return "x" }), WithWorkers(1), WithTimeout(2), WithRetry(3, 4), WithMaxBytes(5), WithBatchSize(6),
		WithResyncRate(7), WithRefresh(8), WithOnlyDifferences(),
	})
	if err != nil {
		t.Fatal(err)
	}
	got := set.EntityOptions
	if got.Scope("") != "x" {
		t.Error("the scope function is lost")
	}
	got.Scope = nil
	want := bridge.EntityOptions{Workers: 1, Timeout: 2 * time.Nanosecond, Retry: bridge.Retry{Min: 3, Max: 4}, MaxBytes: 5, BatchSize: 6, ResyncRate: 7, Refresh: 8, OnlyDifferences: true}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// A key that cannot be is refused at the start, without being shown.
func TestTheKeyOfTheBusIsChecked(t *testing.T) {
	long := canary.Mark + "0123456789abcdef"
	for name, c := range map[string]Config{
		"no bus":           {BusKey: long},
		"a short one":      {NSQAddr: "127.0.0.1:1", BusKey: canary.Mark[:8]},
		"a short second":   {NSQAddr: "127.0.0.1:1", BusKey: long + "," + canary.Mark[:8]},
		"a comma too many": {NSQAddr: "127.0.0.1:1", BusKey: long + ","},
	} {
		_, err := New(c)
		if err == nil || !strings.Contains(err.Error(), "BusKey") || strings.Contains(err.Error(), canary.Mark[:8]) {
			t.Errorf("%s: %v", name, err)
		}
	}
	s, err := New(Config{Bus: new(membus.Broker).NewNode(), BusKey: long + ", " + long + "2", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
}
