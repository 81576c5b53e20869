package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
)

// Config configures the board.
type Config struct {
	// Addrs are the addresses (host:port) of the two nodes. Port 0 takes a free one.
	Addrs [2]string

	// DatabaseURL is a PostgreSQL connection string. Empty means SQLite, in a
	// temporary file.
	DatabaseURL string

	// Logger gets what an operator should know.
	Logger *slog.Logger
}

// Demo is the whole board: a database, NSQ, and two nodes that have nothing
// else in common.
type Demo struct {
	Broker *Broker
	Bus    *Bus
	Stores []Store // one for each node, all of one database
	Nodes  []*Node

	dir string // has all files of the board
}

// StartDemo starts the board. On an error nothing is left running.
func StartDemo(ctx context.Context, c Config) (_ *Demo, err error) {
	// Ports first: a port that is taken is the most frequent failure, and at this point there
	// is nothing to undo.
	listeners, err := listen(c.Addrs)
	if err != nil {
		return nil, err
	}
	d := &Demo{}
	defer func() {
		if err == nil {
			return
		}
		for _, l := range listeners[len(d.Nodes):] {
			l.Close()
		}
		err = errors.Join(err, d.Close(context.WithoutCancel(ctx)))
	}()
	if d.dir, err = os.MkdirTemp("", "entity-sync-board-"); err != nil {
		return nil, fmt.Errorf("making a temporary folder: %w", err)
	}
	for range listeners {
		store, err := OpenStore(ctx, c.DatabaseURL, d.dir)
		if err != nil {
			return nil, err
		}
		d.Stores = append(d.Stores, store)
	}
	if d.Broker, err = StartBroker(d.dir); err != nil {
		return nil, err
	}
	d.Bus = &Bus{broker: d.Broker}
	for i, l := range listeners {
		node, err := startNode(ctx, nodeConfig{
			name: nodeName(i), listener: l, page: pageOf(i, listeners),
			store: d.Stores[i], nsqAddr: d.Broker.Addr(), bus: d.Bus, log: c.Logger,
		})
		if err != nil {
			return nil, fmt.Errorf("starting %s: %w", nodeName(i), err)
		}
		d.Nodes = append(d.Nodes, node)
	}
	for _, n := range d.Nodes {
		if err := n.waitReady(ctx); err != nil {
			return nil, err
		}
	}
	return d, nil
}

func nodeName(i int) string { return fmt.Sprintf("node %d", i+1) }

// pageOf returns the data of node i's page: its own name, and the address of the other node.
func pageOf(i int, listeners []net.Listener) pageData {
	other := (i + 1) % len(listeners)
	_, port, err := net.SplitHostPort(listeners[other].Addr().String())
	if err != nil {
		panic(err) // cannot happen: it is a TCP address
	}
	return pageData{Node: nodeName(i), Other: nodeName(other), OtherPort: port}
}

// Close ends the board and removes its files. The order lets each part still reach the parts
// that it needs to end cleanly. Close may be called on a board that started only in part.
func (d *Demo) Close(ctx context.Context) error {
	var errs []error
	for _, n := range d.Nodes {
		errs = append(errs, n.closeSync(ctx))
	}
	for _, n := range d.Nodes {
		errs = append(errs, n.closeServer(ctx))
	}
	if d.Bus != nil {
		errs = append(errs, d.Bus.Close())
	}
	for _, s := range d.Stores {
		errs = append(errs, s.Close())
	}
	if d.dir != "" {
		errs = append(errs, os.RemoveAll(d.dir))
	}
	return errors.Join(errs...)
}
