package nsqbus

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

const (
	// lookupTimeout bounds asking an nsqlookupd, from connecting to the last
	// byte of its answer. An nsqlookupd has the answer in memory.
	lookupTimeout = 2 * time.Second

	// maxLookupAnswer bounds an answer in bytes. An answer lists all topics of each
	// nsqd: 50 nsqd with 1,000 topics of 40 bytes are about 2.5 MB.
	maxLookupAnswer = 8 << 20
)

// lookup asks an nsqlookupd for every nsqd that it knows, and returns their TCP
// addresses. It does not ask for the nsqd of a topic, because the bus subscribes to
// every topic on every nsqd, which makes the topics.
//
// It does without http.Client, which has goroutines that outlive a request that was
// given up, and which follows redirects.
func lookup(ctx context.Context, lookupd string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	answer, err := get(ctx, lookupd, "/nodes")
	if ctx.Err() != nil {
		return nil, fmt.Errorf("no answer within %v", lookupTimeout)
	}
	if err != nil {
		return nil, err
	}
	return parseNodes(answer)
}

// get returns the body of an HTTP answer. ctx must end at some time.
func get(ctx context.Context, addr, path string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+path, nil)
	if err != nil {
		return nil, err
	}
	request.Close = true
	request.Header.Set("User-Agent", "entity-sync")
	var d net.Dialer
	cn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	defer cn.Close()
	stop := context.AfterFunc(ctx, func() { cn.Close() })
	defer stop()
	if err := request.Write(cn); err != nil {
		return nil, err
	}
	limited := &io.LimitedReader{R: cn, N: maxLookupAnswer} // the header too
	response, err := http.ReadResponse(bufio.NewReader(limited), request)
	if err != nil {
		return nil, tooLarge(limited, err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("it answered %.80q", response.Status)
	}
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, tooLarge(limited, err)
	}
	return body, tooLarge(limited, nil)
}

// tooLarge returns err or, if the limit was reached, an error that says so.
func tooLarge(limited *io.LimitedReader, err error) error {
	if limited.N <= 0 {
		return fmt.Errorf("an answer of more than %d bytes", maxLookupAnswer)
	}
	return err
}

// maxNamed is how many addresses are taken from an answer: far more than maxFound, and
// so few that comparing them with the known ones takes no time.
const maxNamed = 10 * maxFound

var errNoProducers = errors.New(`no "producers" in its answer: this is not an nsqlookupd's HTTP port`)

// parseNodes returns the TCP addresses in an nsqlookupd's answer, each once. It leaves
// out those that cannot be connected to.
func parseNodes(answer []byte) ([]string, error) {
	var nodes struct {
		Producers []struct {
			Host string `json:"broadcast_address"`
			Port int    `json:"tcp_port"`
		} `json:"producers"`
	}
	if err := json.Unmarshal(answer, &nodes); err != nil {
		return nil, fmt.Errorf("reading its answer: %w", err)
	}
	if nodes.Producers == nil {
		return nil, errNoProducers
	}
	addrs := make([]string, 0, min(len(nodes.Producers), maxFound))
	seen := make(map[string]bool)
	for _, p := range nodes.Producers {
		if len(addrs) == maxNamed {
			break
		}
		if !isHost(p.Host) || p.Port < 1 || p.Port > 65535 {
			continue
		}
		addr := net.JoinHostPort(p.Host, strconv.Itoa(p.Port))
		if !seen[addr] {
			seen[addr] = true
			addrs = append(addrs, addr)
		}
	}
	return addrs, nil
}

// isHost reports whether s can be a host to connect to: a DNS name, or an IP address
// that is neither unspecified nor multicast and has no zone. A zone means something on
// one machine alone.
func isHost(s string) bool {
	if ip, err := netip.ParseAddr(s); err == nil {
		ip = ip.Unmap()
		return !ip.IsUnspecified() && !ip.IsMulticast() && ip.Zone() == ""
	}
	return len(s) > 0 && len(s) <= maxHostBytes && strings.IndexFunc(s, isNoHostRune) < 0
}

// maxHostBytes is the longest that a DNS name can be.
const maxHostBytes = 253

func isNoHostRune(r rune) bool {
	switch {
	case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', r == '-', r == '.', r == '_':
		return false
	}
	return true
}
