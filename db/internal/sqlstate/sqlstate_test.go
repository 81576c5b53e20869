package sqlstate_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/entity-sync/entity-sync/db/internal/sqlstate"
)

// foreign is an error of another driver.
type foreign struct{ code string }

func (foreign) Error() string      { return "foreign" }
func (f foreign) SQLState() string { return f.code }

func TestTheCodeIsThatOfAnyDriver(t *testing.T) {
	for err, want := range map[error]string{
		nil:                     "",
		errors.New("no answer"): "",
		foreign{"42P01"}:        "42P01",
		fmt.Errorf("writing: %w", &pgconn.PgError{Code: "25006"}): "25006",
	} {
		if got := sqlstate.Of(err); got != want {
			t.Errorf("Of(%v) = %q, want %q", err, got, want)
		}
	}
}

// What each code is about: s for syntax or access, d for data, i for an id, r for a row,
// p for a pool.
func TestWhatAnErrorIsAbout(t *testing.T) {
	for _, c := range []struct {
		err  pgconn.PgError
		want string
	}{
		{pgconn.PgError{Code: "42P01"}, "sir"},
		{pgconn.PgError{Code: "42501"}, "sir"},
		{pgconn.PgError{Code: "22P02"}, "dir"},
		{pgconn.PgError{Code: "23514"}, "dir"},
		{pgconn.PgError{Code: "P0001"}, "r"},
		{pgconn.PgError{Code: "57014"}, "r"}, // a statement timeout may be one row's
		{pgconn.PgError{Code: "57P01"}, ""},
		{pgconn.PgError{Code: "40001"}, ""},
		{pgconn.PgError{Code: "25006"}, ""},
		{pgconn.PgError{}, ""},
		{pgconn.PgError{Code: "42P05"}, "p"}, // class 42, and of no statement
		{pgconn.PgError{Code: "26000"}, "p"},
		{pgconn.PgError{Code: "08P01", Routine: "exec_bind_message"}, "p"},
		{pgconn.PgError{Code: "08P01"}, ""},
		{pgconn.PgError{Code: "3D000"}, ""}, // of a pool only where the server is connected to
	} {
		err := fmt.Errorf("fetching: %w", &c.err)
		var got strings.Builder
		for _, is := range []struct {
			letter string
			so     bool
		}{
			{"s", sqlstate.IsSyntaxOrAccess(err)}, {"d", sqlstate.IsDataException(err)}, {"i", sqlstate.MayBeOfID(err)},
			{"r", sqlstate.MayBeOfOneRow(err)}, {"p", sqlstate.PoolRemedy(err) != ""},
		} {
			if is.so {
				got.WriteString(is.letter)
			}
		}
		if got.String() != c.want {
			t.Errorf("%q of routine %q is about %q, want %q", c.err.Code, c.err.Routine, got.String(), c.want)
		}
	}
}

// The remedy is added once, however many functions add it.
func TestThePoolsRemedyIsAddedOnce(t *testing.T) {
	err := sqlstate.WithPoolRemedy(&pgconn.PgError{Code: "26000"})
	if !errors.Is(err, sqlstate.ErrBadPool) || sqlstate.Of(err) != "26000" || !strings.Contains(err.Error(), "default_query_exec_mode=exec") {
		t.Errorf("the error is %v", err)
	}
	if again := sqlstate.WithPoolRemedy(err); again.Error() != err.Error() {
		t.Errorf("the error is now %v", again)
	}
	if other := errors.New("no answer"); sqlstate.WithPoolRemedy(other) != other || sqlstate.WithPoolRemedy(nil) != nil { //nolint:errorlint // the same error
		t.Error("an error of no pool is changed")
	}
}
