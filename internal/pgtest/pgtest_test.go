package pgtest

import (
	"os"
	"testing"

	"github.com/entity-sync/entity-sync/internal/testkit"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, testkit.AtEnd(End)) }

func TestAServerKeepsWhatIsInItWhenItIsStopped(t *testing.T) {
	s := Shared(t)
	d := s.NewDatabase(t, "create table items (id int); insert into items values (100)")
	s.Stop()
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	var id int
	if err := d.Connect(t).QueryRow(t.Context(), "select id from items").Scan(&id); err != nil || id != 100 {
		t.Errorf("read %d, %v", id, err)
	}
}

func TestCloseLeavesNothing(t *testing.T) {
	s, err := New()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(s.dir); !os.IsNotExist(err) {
		t.Errorf("the folder is still there: %v", err)
	}
}

// A PgBouncer refuses a setting that it does not know.
func TestAPgBouncerKeepsStatementsFrom1_21On(t *testing.T) {
	for version, keeps := range map[string]bool{
		"PgBouncer 1.18.0\nlibevent 2.1.12-stable": false, "PgBouncer 1.20.1": false, "PgBouncer 1.21.0": true, "PgBouncer 1.24.1\n": true, "PgBouncer 2.0.0": true, "": false, "PgBouncer next": false,
	} {
		if keepsStatements(version) != keeps {
			t.Errorf("%q: %v", version, !keeps)
		}
	}
}
