package nsqbus

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"time"

	"github.com/entity-sync/entity-sync/shared"
)

// Config says which NSQ to use, and how. Only Addrs is required.
type Config struct {
	// Addrs are the TCP addresses (host:port) of every nsqd of the cluster. A
	// node subscribes on all of them and publishes to one that answers.
	Addrs []string

	// Prefix is put before every entity type to make its topic, so that several
	// systems can share a cluster: letters, digits, '.', '_' and '-'.
	Prefix string

	// TLS encrypts every connection, with this configuration. An nsqd that does
	// not offer TLS is then refused: nothing is said to it in clear. ServerName is
	// the address's host where it is empty. Nil means no TLS.
	TLS *tls.Config

	// AuthSecret is given to an nsqd that asks for it. Without TLS it travels in
	// clear.
	AuthSecret string

	// Heartbeat is how often each nsqd shows that it is alive; three missed ones
	// end the connection. Zero means 1 s, NSQ takes from 1 s to 60 s.
	Heartbeat time.Duration

	// DialTimeout bounds connecting and shaking hands. Zero means 1 s.
	DialTimeout time.Duration

	// Reconnect bounds the wait between two attempts to reach an nsqd; the wait
	// grows up to it from a tenth of it, with full jitter. Zero means 1 s.
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
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

func (c Config) validate() error {
	if len(c.Addrs) == 0 {
		return errors.New("Addrs is empty, want the host:port of at least one nsqd")
	}
	for _, addr := range c.Addrs {
		_, port, err := net.SplitHostPort(addr)
		if err != nil {
			return fmt.Errorf("Addrs holds %q, want host:port: %w", addr, err)
		}
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return fmt.Errorf("Addrs holds %q, want host:port with a port from 1 to 65535", addr)
		}
	}
	if c.Prefix != "" {
		if err := shared.EntityType(c.Prefix).Validate(); err != nil {
			return fmt.Errorf("Prefix %.80q: %w", c.Prefix, err)
		}
	}
	if c.Heartbeat < time.Second || c.Heartbeat > time.Minute {
		return fmt.Errorf("Heartbeat is %v, want 1s to 60s", c.Heartbeat)
	}
	if c.DialTimeout < 0 || c.Reconnect < 0 {
		return errors.New("DialTimeout and Reconnect cannot be negative")
	}
	return nil
}

// topic names the topic of an entity type, or says why there can be none.
func (c Config) topic(entity shared.EntityType) (string, error) {
	if err := entity.Validate(); err != nil {
		return "", err
	}
	topic := c.Prefix + entity.GetQueueName()
	if err := shared.EntityType(topic).Validate(); err != nil {
		return "", fmt.Errorf("the topic %.80q (prefix and entity type): %w", topic, err)
	}
	return topic, nil
}
