package pgtest

import (
	"fmt"
	"os"
	"testing"
)

func TestMain(m *testing.M) {
	code := m.Run()
	if err := End(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

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
