package nsqbus

import (
	"cmp"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"time"

	"github.com/entity-sync/entity-sync/internal/field"
	"github.com/entity-sync/entity-sync/shared"
)

// Config says which NSQ to use, and how. Only one of Addrs and LookupAddrs is
// required.
type Config struct {
	// Addrs are the TCP addresses (host:port) of every nsqd of the cluster, except
	// those that LookupAddrs find. A node subscribes on all of them and publishes to
	// one that answers.
	Addrs []string

	// LookupAddrs are the HTTP addresses (host:port) of nsqlookupd. The bus asks each
	// which nsqd there are, and uses the answers in addition to Addrs. An nsqlookupd
	// that is down, or answers rubbish, changes nothing.
	//
	// The answers travel in clear and are believed: AuthSecret is given to each nsqd
	// that they name, unless TLS finds that the nsqd is not yours.
	LookupAddrs []string

	// LookupInterval is the longest wait before an nsqlookupd is asked again; the
	// shortest is half of it. An nsqd that was found is published to after two to
	// three LookupIntervals, when the other nodes have found it as well. It is
	// forgotten when it was unreachable and on no list for twelve of them. All nodes
	// should have the same. Zero means 5 s, the least is 10 ms.
	LookupInterval time.Duration

	// Prefix is put before every entity type to make its topic, so that several
	// systems can share a cluster: letters, digits, '.', '_' and '-'.
	Prefix string

	// SharedTopic, if not empty, names one topic (after Prefix) for all entity
	// types. A node then needs one subscription for each nsqd, rather than one for
	// each nsqd and entity type. Each body must be JSON that names its entity type in
	// "entity"; Publish returns an error otherwise. All nodes of a system must have
	// the same SharedTopic: a node with another hears nothing of the others.
	SharedTopic string

	// TLS encrypts every connection, with this configuration. An nsqd that does not
	// offer TLS is then refused, and gets neither AuthSecret nor a message. If
	// ServerName is empty, it is the address's host. Nil means no TLS.
	TLS *tls.Config

	// AuthSecret is given to an nsqd that asks for it. Without TLS it travels in
	// clear.
	AuthSecret string

	// Heartbeat is how often each nsqd shows that it is alive; three missed ones
	// end the connection. Zero means 1 s, NSQ takes from 1 s to 60 s.
	Heartbeat time.Duration

	// DialTimeout bounds connecting and shaking hands. Zero means 1 s.
	DialTimeout time.Duration

	// Reconnect bounds the wait between two attempts to reach an nsqd. The bound of
	// the first wait is a tenth of it, and doubles with each failure up to Reconnect;
	// each wait is random below its bound. Zero means 1 s.
	Reconnect time.Duration

	// Logger gets what an operator should know. Nil means slog.Default().
	Logger *slog.Logger
}

func (c Config) withDefaults() Config {
	if c.Heartbeat == 0 {
		c.Heartbeat = time.Second
	}
	if c.DialTimeout == 0 {
		c.DialTimeout = time.Second
	}
	if c.Reconnect == 0 {
		c.Reconnect = time.Second
	}
	if c.LookupInterval == 0 {
		c.LookupInterval = defaultLookupInterval
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

func (c Config) validate() error {
	if len(c.Addrs) == 0 && len(c.LookupAddrs) == 0 {
		return field.Errorf("Addrs", "is empty, and so is LookupAddrs: want the host:port of one nsqd or nsqlookupd at least")
	}
	if err := validateAddrs("Addrs", c.Addrs); err != nil {
		return err
	}
	if err := validateAddrs("LookupAddrs", c.LookupAddrs); err != nil {
		return err
	}
	if c.LookupInterval < minLookupInterval {
		return field.Errorf("LookupInterval", "is %v, want %v at least", c.LookupInterval, minLookupInterval)
	}
	if c.Prefix != "" {
		if err := shared.EntityType(c.Prefix).Validate(); err != nil {
			return field.Errorf("Prefix", "is %.80q: %w", c.Prefix, err)
		}
	}
	if c.SharedTopic != "" {
		if err := shared.EntityType(c.Prefix + c.SharedTopic).Validate(); err != nil {
			return field.Errorf("SharedTopic", "makes the topic %.80q, with the prefix: %w", c.Prefix+c.SharedTopic, err)
		}
	}
	if c.Heartbeat < time.Second || c.Heartbeat > time.Minute {
		return field.Errorf("Heartbeat", "is %v, want 1s to 60s", c.Heartbeat)
	}
	return cmp.Or(field.NotNegative("DialTimeout", c.DialTimeout), field.NotNegative("Reconnect", c.Reconnect))
}

func validateAddrs(name string, addrs []string) error {
	for _, addr := range addrs {
		_, port, err := net.SplitHostPort(addr)
		if err != nil {
			return field.Errorf(name, "holds %q, want host:port: %w", addr, err)
		}
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return field.Errorf(name, "holds %q, want host:port with a port from 1 to 65535", addr)
		}
	}
	return nil
}

// topic returns the topic of an entity type, or why it cannot have one.
func (c Config) topic(entity shared.EntityType) (string, error) {
	if err := entity.Validate(); err != nil {
		return "", err
	}
	if c.SharedTopic != "" {
		return c.Prefix + c.SharedTopic, nil
	}
	topic := c.Prefix + string(entity)
	if err := shared.EntityType(topic).Validate(); err != nil {
		return "", fmt.Errorf("the topic %.80q (prefix and entity type): %w", topic, err)
	}
	return topic, nil
}

// topicFor is topic for publishing body, which on a shared topic must name entity.
func (c Config) topicFor(entity shared.EntityType, body []byte) (string, error) {
	topic, err := c.topic(entity)
	if err == nil && c.SharedTopic != "" {
		err = names(body, entity)
	}
	return topic, err
}
