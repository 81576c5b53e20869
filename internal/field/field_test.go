package field_test

import (
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/entity-sync/entity-sync/internal/field"
)

func TestAnErrorHasTheWholePath(t *testing.T) {
	err := field.Errorf("Addrs", "holds %q: %w", "x", io.EOF)
	for want, got := range map[string]error{
		`Addrs: holds "x": EOF`:               err,
		`nsqbus.Config.Addrs: holds "x": EOF`: field.In("nsqbus.Config", err),
		`es.Config.NSQ.Addrs: holds "x": EOF`: field.In("es.Config.NSQ", field.In("nsqbus.Config", err)),
		`es.Config.Bus.Addrs: holds "x": EOF`: field.In("es.Config.Bus", fmt.Errorf("starting: %w", err)),
	} {
		if got.Error() != want || !errors.Is(got, io.EOF) {
			t.Errorf("got %v, want %s", got, want)
		}
	}
	if err := field.In("web.Config", io.EOF); err != io.EOF { //nolint:errorlint // the very same
		t.Errorf("an error that names no field is %v", err)
	}
	if err := field.In("web.Config", nil); err != nil {
		t.Errorf("no error is %v", err)
	}
}

func TestNotNegative(t *testing.T) {
	if err := errors.Join(field.NotNegative("A", 0), field.NotNegative("B", time.Second)); err != nil {
		t.Error(err)
	}
	if err := field.NotNegative("PingInterval", -time.Second); err == nil || err.Error() != "PingInterval: is -1s, and cannot be negative" {
		t.Error(err)
	}
}
