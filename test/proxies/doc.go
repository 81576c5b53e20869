// Package proxies runs nodes behind real proxies, each with the very configuration that
// docs/proxies.md shows, while the nodes are replaced one after the other.
package proxies
