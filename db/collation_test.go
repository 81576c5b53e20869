package db_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/entity-sync/entity-sync/db"
	"github.com/entity-sync/entity-sync/internal/pgtest"
	"github.com/entity-sync/entity-sync/shared"
)

// A collation may take ANN for Ann. The change of a row is announced as the row's id is
// spelled, so that another spelling is not found, and is no error of its own or of those
// that are fetched with it.
func TestAnotherSpellingOfAnIDIsNotFound(t *testing.T) {
	d := pgtest.Shared(t).NewDatabase(t, `
		create collation careless (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
		create collation accents (provider = icu, locale = 'und-u-ks-level1', deterministic = false);
		create table texts (id text collate careless primary key); insert into texts values ('Ann'), ('Bob');
		create table varchars (id varchar(20) collate accents primary key); insert into varchars values ('Ann'), ('Bob');
		create table plain (id text primary key); insert into plain values ('Ann'), ('Bob')`)
	pool := pgtest.Pool(t, d.URL(), 2)
	for name, statement := range map[string]string{
		"a text":              "select id from texts where id = any($1)",
		"a varchar":           "select id from varchars where id = any($1)",
		"of the statement":    "select id collate careless as id from plain where id collate careless = any($1)",
		"of a table's column": "select t.id, p.id as other from texts t join plain p on p.id = t.id collate \"C\" where t.id = any($1)",
	} {
		one := db.Rows(pool, strings.ReplaceAll(statement, "any($1)", "$1"))
		if err := one.Check(t.Context()); !errors.Is(err, db.ErrBadQuery) || !strings.Contains(err.Error(), "use Batch") {
			t.Errorf("%s: one by one, where no row says whose it is: %v", name, err)
		}
		q := db.Batch(pool, statement)
		for _, ids := range [][]string{{"ANN"}, {"ANN", "bob"}, {"Ann", "ANN", "Bob", "nobody"}, {"ánn", "Bob"}} {
			for i, r := range q.FetchBatch(t.Context(), requestsOf(ids...)) {
				there := ids[i] == "Ann" || ids[i] == "Bob"
				if there && (r.Err != nil || len(r.Rows) != 1) || !there && !errors.Is(r.Err, shared.ErrNotFound) {
					t.Errorf("%s: %s among %q is %q, %v", name, ids[i], ids, r.Rows, r.Err)
				}
			}
		}
	}
	if err := db.Rows(pool, "select id from plain where id = $1").Check(t.Context()); err != nil {
		t.Error(err)
	}
	// Where texts are equal only if they are the same, no such row can be: the statement is
	// wrong.
	stray := db.Batch(pool, "select 'x'::text as id, id as name from plain where id = any($1)")
	if _, err := stray.Fetch(t.Context(), idOf("Ann"), ""); err == nil || errors.Is(err, shared.ErrNotFound) {
		t.Errorf("a statement whose first column is not the id: %v", err)
	}
}
