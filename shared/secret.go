package shared

import (
	"fmt"
	"io"
	"log/slog"
	"unique"
)

// redacted is what a Secret looks like wherever it is shown.
const redacted = "[redacted]"

// Secret is a client's secret. No log, format or encoding shows it: only Reveal returns it.
// Secrets are equal if their texts are. The zero value is the empty secret.
type Secret struct {
	// The text is behind a pointer, the same one for equal texts, because fmt calls no method
	// of a value in an unexported field. Zero means no text.
	handle unique.Handle[string]
}

// NewSecret returns text as a Secret.
func NewSecret(text string) Secret {
	if text == "" {
		return Secret{}
	}
	return Secret{unique.Make(text)}
}

// Reveal returns the text.
func (s Secret) Reveal() string {
	if s == (Secret{}) {
		return ""
	}
	return s.handle.Value()
}

// String returns a placeholder, as do the other methods.
func (Secret) String() string { return redacted }

// Format implements fmt.Formatter, for every verb.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// MarshalText implements encoding.TextMarshaler, and so JSON.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue implements slog.LogValuer.
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }
