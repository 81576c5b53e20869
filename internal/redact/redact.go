// Package redact keeps secrets out of the log.
package redact

import (
	"encoding/json"
	"fmt"
	"net/url"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// Panic says what a recovered panic was without showing a value that may hold a secret: an
// error of the runtime is said in full, of any other value the type alone.
func Panic(r any) string {
	if err, ok := r.(runtime.Error); ok {
		return err.Error()
	}
	return fmt.Sprintf("a value of type %T", r)
}

// Text returns an error's text without a secret that the application may have put into it: as
// it is, and as it is written where it is quoted in a usual way.
func Text(text, secret string) string {
	if secret == "" {
		return text
	}
	asJSON, err := json.Marshal(secret)
	if err != nil {
		return "[an error that may show a secret]"
	}
	unquoted := func(s string) string { return s[1 : len(s)-1] }
	forms := []string{
		secret,
		unquoted(strconv.Quote(secret)), unquoted(strconv.QuoteToASCII(secret)), unquoted(string(asJSON)),
		url.QueryEscape(secret), url.PathEscape(secret),
	}
	// The longest first: a shorter form may be a part of it.
	slices.SortFunc(forms, func(a, b string) int { return len(b) - len(a) })
	for _, form := range forms {
		text = strings.ReplaceAll(text, form, "[redacted]")
	}
	return text
}
