package outbox

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/entity-sync/entity-sync/db/internal/sqlstate"
	"github.com/entity-sync/entity-sync/shared"
)

// publishSQL takes the event as text, so that the statement is the same for every driver.
const publishSQL = `insert into entity_sync_outbox_events (topic, event) values ($1::text, $2::text::json)`

// PublishTx makes a node publish an event once tx has committed, and not at all if tx is rolled
// back. It writes the event to the outbox, and the Relay of a node that has registered the
// topic's channel publishes it, at least once: a client that gets an event twice knows it by its
// source and id.
//
// The events of one transaction are published in the order of the calls, and after those of
// each transaction that was committed before this one began to write. Make the event with
// shared.NewEvent.
//
// It returns an error wrapping shared.ErrBadTopic or shared.ErrBadEvent before anything is
// written. Otherwise its errors are as those of NotifyTx.
func PublishTx(ctx context.Context, tx pgx.Tx, topic shared.Topic, e shared.Event) error {
	return publish(tx, topic, e, func(event string) error {
		_, err := tx.Exec(ctx, publishSQL, string(topic), event)
		sqlstate.LeaveReadOnly(ctx, tx.Conn(), err)
		return err
	})
}

// PublishSQLTx is PublishTx for database/sql, with any driver of PostgreSQL. If the server is
// read only, it makes the server end the connection.
func PublishSQLTx(ctx context.Context, tx SQLTx, topic shared.Topic, e shared.Event) error {
	return publish(tx, topic, e, func(event string) error {
		_, err := tx.ExecContext(ctx, publishSQL, string(topic), event)
		sqlstate.LeaveReadOnlySQL(ctx, tx, err)
		return err
	})
}

func publish(tx any, topic shared.Topic, e shared.Event, write func(event string) error) error {
	if isNil(tx) {
		return errors.New("outbox: publishing: the transaction is nil")
	}
	err := topic.Validate()
	if err == nil && e.IsZero() {
		err = fmt.Errorf("%w: there is none", shared.ErrBadEvent)
	}
	if err != nil {
		return fmt.Errorf("outbox: publishing an event: %w", err)
	}
	if err := write(string(e.JSON())); err != nil {
		return fmt.Errorf("outbox: writing an event: %w", withRemedy(err))
	}
	return nil
}
