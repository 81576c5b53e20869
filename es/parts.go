package es

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"reflect"
	"strings"

	"github.com/entity-sync/entity-sync/bridge"
	"github.com/entity-sync/entity-sync/bridge/bus"
	"github.com/entity-sync/entity-sync/bridge/membus"
	"github.com/entity-sync/entity-sync/bridge/nsqbus"
	"github.com/entity-sync/entity-sync/bridge/sealed"
	"github.com/entity-sync/entity-sync/internal/field"
	"github.com/entity-sync/entity-sync/web"
)

// parts is the Config of each part, with the fields of the top in it.
type parts struct {
	nsq    *nsqbus.Config // nil if NSQ is not used
	bridge bridge.Config  // without a Bus if the process is by itself
	web    web.Config

	log *slog.Logger
	top map[string]string // the fields that were set at the top, by their path in the parts
	err error             // of the first field that was set twice
}

// newParts returns an error if a field was set both at the top and in its part.
func newParts(c Config) (parts, error) {
	p := parts{bridge: c.Bridge, web: c.Web, log: c.Logger, top: make(map[string]string)}
	if c.NSQAddr != "" || !isZero(&c.NSQ) {
		p.nsq = &c.NSQ
		move(&p, "NSQAddr", splitAddrs(c.NSQAddr), "NSQ.Addrs", &p.nsq.Addrs)
		p.lendLogger(&p.nsq.Logger)
	}
	move(&p, "Bus", c.Bus, "Bridge.Bus", &p.bridge.Bus)
	move(&p, "WSPassThrough", c.WSPassThrough, "Web.PassThrough", &p.web.PassThrough)
	move(&p, "OnMessage", c.OnMessage, "Web.OnMessage", &p.web.OnMessage)
	move(&p, "Authenticate", c.Authenticate, "Web.Authenticate", &p.web.Authenticate)
	move(&p, "VerifySecret", c.VerifySecret, "Web.VerifySecret", &p.web.VerifySecret)
	move(&p, "Authorize", c.Authorize, "Web.Authorize", &p.web.Authorize)
	move(&p, "AllowedOrigins", c.AllowedOrigins, "Web.AllowedOrigins", &p.web.AllowedOrigins)
	p.lendLogger(&p.bridge.Logger)
	p.lendLogger(&p.web.Logger)
	if p.err == nil {
		p.err = p.validateBus(c.BusKey)
	}
	return p, p.err
}

// validateBus checks the fields that no bus checks.
func (p *parts) validateBus(key string) error {
	switch {
	case p.alone() && key != "":
		return field.Errorf("BusKey", "is for the messages of other processes: set NSQAddr, NSQ or Bus as well")
	case p.nsq != nil && p.bridge.Bus != nil:
		return field.Errorf(p.name("Bridge.Bus"), "takes the place of NSQ: NSQAddr and NSQ must be empty")
	case p.nsq != nil && len(p.nsq.Addrs) == 0 && len(p.nsq.LookupAddrs) == 0:
		return field.Errorf("NSQ", "is set, but no address: set NSQAddr, NSQ.Addrs or NSQ.LookupAddrs as well")
	}
	return nil
}

// move sets a field of a part to a value that was set at the top.
func move[T any](p *parts, top string, value T, path string, to *T) {
	if isZero(&value) {
		return
	}
	if !isZero(to) && p.err == nil {
		p.err = field.Errorf(top, "is set, and so is %s, which is the same: set one of them", path)
	}
	p.top[path] = top
	*to = value
}

// isZero takes a pointer, because reflect tells nothing of a nil interface.
func isZero[T any](v *T) bool { return reflect.ValueOf(v).Elem().IsZero() }

func (p *parts) lendLogger(to **slog.Logger) {
	if *to == nil {
		*to = p.log
	}
}

// errorIn returns the error of a part with the path of the field in Config.
func (p *parts) errorIn(part string, err error) error {
	var e *field.Error
	if !errors.As(err, &e) {
		return err
	}
	return &field.Error{Config: "es.Config", Name: p.name(part + "." + e.Name), Err: e.Err}
}

// name returns the path in Config at which the field of a part was set.
func (p *parts) name(path string) string { return cmp.Or(p.top[path], path) }

// newBus returns the bus with the key, if there is one.
func (p *parts) newBus(key string) (bus.Bus, error) {
	bus, err := p.plainBus()
	if err != nil || key == "" {
		return bus, err
	}
	var keys [][]byte
	for key := range strings.SplitSeq(key, ",") {
		keys = append(keys, []byte(strings.TrimSpace(key)))
	}
	safe, err := sealed.New(bus, sealed.Config{Keys: keys, Logger: p.log})
	if err != nil {
		if p.bridge.Bus == nil {
			_ = bus.Close(context.Background()) // it has only just begun
		}
		p.top["sealed.Keys"] = "BusKey"
		return nil, p.errorIn("sealed", err)
	}
	return safe, nil
}

// plainBus is a bus whose messages are not authenticated.
func (p *parts) plainBus() (bus.Bus, error) {
	switch {
	case p.bridge.Bus != nil:
		return p.bridge.Bus, nil
	case p.nsq == nil:
		return new(membus.Broker).NewNode(), nil
	}
	bus, err := nsqbus.New(*p.nsq)
	if err != nil {
		return nil, p.errorIn("NSQ", err)
	}
	return bus, nil
}

// alone reports whether the process is not joined to any other.
func (p *parts) alone() bool { return p.nsq == nil && p.bridge.Bus == nil }

// splitAddrs returns the addresses in a list with commas, none if the list is empty.
func splitAddrs(list string) []string {
	if list == "" {
		return nil
	}
	addrs := strings.Split(list, ",")
	for i := range addrs {
		addrs[i] = strings.TrimSpace(addrs[i])
	}
	return addrs
}
