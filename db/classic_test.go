package db_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/entity-sync/entity-sync/db"
	"github.com/entity-sync/entity-sync/shared"
)

var key = shared.EntityKey{Entity: "items", ID: "100"}

func TestHubServesBothKindsOfHandlers(t *testing.T) {
	hub := db.NewDatabaseHub()
	hub.AddDataPullAndPushHandler("items", func(k shared.EntityKey, secret string, push shared.ByteHandler) {
		push([]byte(k.ID))
		push([]byte(secret))
	})
	hub.AddFetcher("users", func(_ context.Context, k shared.EntityKey, secret string) ([][]byte, error) {
		return [][]byte{[]byte(k.ID), []byte(secret)}, nil
	})
	for _, entity := range []shared.EntityType{"items", "users"} {
		k := shared.EntityKey{Entity: entity, ID: "100"}
		rows, err := hub.Fetch(t.Context(), k, "me")
		if err != nil || len(rows) != 2 || string(rows[0]) != "100" || string(rows[1]) != "me" {
			t.Errorf("Fetch of %q returned %q, %v", entity, rows, err)
		}
		var pushed []string
		hub.PullDataAndPush(k, "me", func(b []byte) { pushed = append(pushed, string(b)) })
		if !slices.Equal(pushed, []string{"100", "me"}) {
			t.Errorf("PullDataAndPush of %q pushed %q", entity, pushed)
		}
	}
}

func TestHubWithoutAHandler(t *testing.T) {
	hub := db.NewDatabaseHub()
	if _, err := hub.Fetch(t.Context(), key, ""); !errors.Is(err, shared.ErrUnknownEntity) {
		t.Errorf("Fetch returned %v, want ErrUnknownEntity", err)
	}
	hub.PullDataAndPush(key, "", func(b []byte) { t.Errorf("pushed %q", b) })
}

func TestAFailedFetchIsNotTakenForAnEmptyOne(t *testing.T) {
	hub := db.NewDatabaseHub()
	failure := shared.ErrNotFound
	hub.AddFetcher("items", func(context.Context, shared.EntityKey, string) ([][]byte, error) { return nil, failure })
	pull := func() { hub.PullDataAndPush(key, "", func(b []byte) { t.Errorf("pushed %q", b) }) }
	pull()
	failure = errors.New("the database is down")
	defer func() {
		if err, _ := recover().(error); !errors.Is(err, failure) {
			t.Errorf("panicked with %v, want the failure", err)
		}
	}()
	pull()
}

func TestALaterHandlerReplacesAnEarlierOne(t *testing.T) {
	hub := db.NewDatabaseHub()
	for _, text := range []string{"old", "new"} {
		hub.AddDataPullAndPushHandler("items", func(_ shared.EntityKey, _ string, push shared.ByteHandler) { push([]byte(text)) })
	}
	if rows, err := hub.Fetch(t.Context(), key, ""); err != nil || string(rows[0]) != "new" {
		t.Errorf("Fetch returned %q, %v", rows, err)
	}
}

func TestANilClassicHandlerIsNone(t *testing.T) {
	hub := db.NewDatabaseHub()
	hub.AddDataPullAndPushHandler("items", nil)
	if _, err := hub.Fetch(t.Context(), key, ""); !errors.Is(err, shared.ErrUnknownEntity) {
		t.Errorf("a nil classic handler: %v, want ErrUnknownEntity", err)
	}
}
