// Package ci tests the scripts in .ci.
package ci
