package outbox

import (
	"context"
	"fmt"

	"github.com/entity-sync/entity-sync/shared"
)

// Track has every write to a table announced once it is committed, whichever program makes it:
// this one, another one, a migration, psql. Triggers write to the outbox, which EnsureSchema
// must have made before, one row for each distinct key of a statement. A row that moves to
// another key announces both keys. TRUNCATE announces every key of the table.
//
// table and the columns of the id are written as in SQL: "items", "shop.items", `"Odd Name"`.
// Several columns make an id with "/" between them; a row with NULL in one of them has no id.
// A column is announced as its text, column::text. There times are ISO and UTC, numeric has no
// zeros at its end, inet no /32, and an interval days of 24 hours. A db.Query has the row
// under that text alone. No client can watch a text that is no valid id, such as one of more
// than 255 bytes: the write goes on, and the relay drops the text (Stats.Bad).
//
// A call that changes nothing takes no lock. The first call for a table, and a call with other
// columns than before, takes the table's SHARE ROW EXCLUSIVE lock, and replacing takes the
// ACCESS EXCLUSIVE lock, for a moment: the call waits for transactions that have written the
// table, and other transactions wait for the call. A table may be tracked for several entity
// types, such as an order line for its order.
//
// Not announced are writes that name a partition rather than the partitioned table (track the
// partition as well), and writes with session_replication_role = replica, as logical
// replication makes them. A table that is built anew and renamed has no triggers until Track
// is called for it. If the columns are renamed, writes fail until Track is called with the new
// names: do both in one transaction.
func Track(ctx context.Context, conn Beginner, table string, entity shared.EntityType, idColumns ...string) error {
	if err := entity.Validate(); err != nil {
		return fmt.Errorf("outbox: tracking %s: %w", table, err)
	}
	return inTx(ctx, conn, "tracking "+table, "select entity_sync_track($1::text::regclass, $2, variadic $3)", table, string(entity), idColumns)
}

// Untrack removes the triggers of Track, if there are any. It takes the table's ACCESS
// EXCLUSIVE lock for a moment.
func Untrack(ctx context.Context, conn Beginner, table string, entity shared.EntityType) error {
	return inTx(ctx, conn, "no longer tracking "+table, "select entity_sync_untrack($1::text::regclass, $2)", table, string(entity))
}
