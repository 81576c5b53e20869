package nsqbus

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"github.com/nsqio/go-nsq"

	"github.com/entity-sync/entity-sync/bridge/bus"
)

// maxFrame bounds what a peer can make a node allocate. nsqd's own default for
// a message is 1 MiB; a peer that is no nsqd at all (its HTTP port, say)
// announces gigabytes.
const maxFrame = 2 << 20

// writeTimeout bounds one write to an nsqd. Commands are small, so one that
// does not go out means that the nsqd has stopped reading.
const writeTimeout = time.Second

// conn is one connection to an nsqd, speaking the V2 protocol
// (https://nsq.io/clients/tcp_protocol_spec.html).
//
// It uses go-nsq's commands, but not its Consumer, Producer and Conn: those neither
// report a lost connection in time nor keep a deadline, and they believe whatever frame
// length a peer sends.
type conn struct {
	net.Conn
	r       *bufio.Reader
	w       *bufio.Writer
	timeout time.Duration // of a read: no heartbeat for so long means dead
	ready   int           // how many messages nsqd allows under way; 0 for no limit
}

// timed bounds each read and each write of a connection.
type timed struct {
	net.Conn
	read, write time.Duration
}

func (t timed) Read(b []byte) (int, error) {
	if err := t.SetReadDeadline(time.Now().Add(t.read)); err != nil {
		return 0, err
	}
	return t.Conn.Read(b)
}

func (t timed) Write(b []byte) (int, error) {
	if err := t.SetWriteDeadline(time.Now().Add(t.write)); err != nil {
		return 0, err
	}
	return t.Conn.Write(b)
}

// dial connects and identifies. The connection is closed when ctx ends.
func dial(ctx context.Context, addr string, c Config) (*conn, error) {
	ctx, cancel := context.WithTimeout(ctx, c.DialTimeout)
	defer cancel()
	var d net.Dialer
	nc, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { nc.Close() })
	defer stop()
	cn := &conn{timeout: 3 * c.Heartbeat}
	cn.over(nc)
	if err := cn.shakeHands(ctx, addr, c); err != nil {
		nc.Close()
		return nil, fmt.Errorf("shaking hands with %s: %w", addr, err)
	}
	return cn, nil
}

// over has the connection read from and write to c from now on.
func (cn *conn) over(c net.Conn) {
	bounded := timed{c, cn.timeout, writeTimeout}
	cn.Conn, cn.r, cn.w = c, bufio.NewReader(bounded), bufio.NewWriter(bounded)
}

// features is nsqd's answer to IDENTIFY.
type features struct {
	MaxRdyCount  int  `json:"max_rdy_count"`
	TLS          bool `json:"tls_v1"`
	AuthRequired bool `json:"auth_required"`
}

func (cn *conn) shakeHands(ctx context.Context, addr string, c Config) error {
	offered, err := cn.identify(c)
	if err != nil {
		return err
	}
	cn.ready = offered.MaxRdyCount
	if c.TLS != nil {
		// An nsqd without TLS says so here, and would go on in clear.
		if !offered.TLS {
			return errors.New("it does not offer TLS")
		}
		if err := cn.encrypt(ctx, addr, c); err != nil {
			return fmt.Errorf("TLS: %w", err)
		}
	}
	if offered.AuthRequired {
		return cn.authenticate(c)
	}
	return nil
}

func (cn *conn) identify(c Config) (offered features, err error) {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	cmd, err := nsq.Identify(map[string]any{
		"client_id":           host,
		"hostname":            host,
		"user_agent":          "entity-sync",
		"feature_negotiation": true,
		"heartbeat_interval":  c.Heartbeat.Milliseconds(),
		"tls_v1":              c.TLS != nil,
		// No buffering in nsqd: with it a lone notification waits up to 250 ms.
		"output_buffer_size": -1,
	})
	if err != nil {
		return offered, err
	}
	if _, err := cn.w.Write(nsq.MagicV2); err != nil {
		return offered, err
	}
	answer, err := cn.ask(cmd, c)
	if err != nil {
		return offered, err
	}
	if err := json.Unmarshal(answer, &offered); err != nil {
		return offered, fmt.Errorf("reading its features: %w", err)
	}
	return offered, nil
}

func (cn *conn) encrypt(ctx context.Context, addr string, c Config) error {
	config := c.TLS.Clone()
	if config.ServerName == "" {
		host, _, err := net.SplitHostPort(addr)
		if err != nil {
			return err
		}
		config.ServerName = host
	}
	secure := tls.Client(cn.Conn, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		return err
	}
	cn.over(secure)
	_, err := cn.response(c.DialTimeout) // nsqd says OK once more
	return err
}

func (cn *conn) authenticate(c Config) error {
	if c.AuthSecret == "" {
		return errors.New("it asks for an AuthSecret, and there is none")
	}
	cmd, err := nsq.Auth(c.AuthSecret)
	if err != nil {
		return err
	}
	if _, err := cn.ask(cmd, c); err != nil {
		return fmt.Errorf("authenticating: %w", err)
	}
	return nil
}

// ask sends a command and returns its answer.
func (cn *conn) ask(cmd *nsq.Command, c Config) ([]byte, error) {
	if err := cn.send(cmd); err != nil {
		return nil, err
	}
	return cn.response(c.DialTimeout)
}

// send writes commands and flushes them.
func (cn *conn) send(cmds ...*nsq.Command) error {
	for _, cmd := range cmds {
		if _, err := cmd.WriteTo(cn.w); err != nil {
			return err
		}
	}
	return cn.w.Flush()
}

// frame reads one frame, whose data are valid until the next is read. It fails
// when nothing came for three heartbeats.
func (cn *conn) frame() (kind int32, data []byte, err error) {
	head, err := cn.next(8)
	if err != nil {
		return 0, nil, err
	}
	size := binary.BigEndian.Uint32(head[:4])
	kind = int32(binary.BigEndian.Uint32(head[4:])) //nolint:gosec // the protocol has a signed number there
	if size < 4 || size > maxFrame {
		return 0, nil, fmt.Errorf("a frame of %d bytes: this is not an nsqd's TCP port, or --max-msg-size is far too large", size)
	}
	data, err = cn.next(int(size - 4))
	return kind, data, err
}

// next reads n bytes. If they fit into the reader's buffer, data is a part of that.
func (cn *conn) next(n int) (data []byte, err error) {
	if n > cn.r.Size() {
		data = make([]byte, n)
		_, err = io.ReadFull(cn.r, data)
		return data, err
	}
	if data, err = cn.r.Peek(n); err == nil {
		_, err = cn.r.Discard(n)
	}
	return data, err
}

var errUnexpected = errors.New("an unexpected frame")

const heartbeat = "_heartbeat_"

// response reads the answer to the command just sent, and answers heartbeats
// that come before it.
func (cn *conn) response(within time.Duration) ([]byte, error) {
	for end := time.Now().Add(within); ; {
		if time.Now().After(end) {
			return nil, fmt.Errorf("no answer within %v", within)
		}
		kind, data, err := cn.frame()
		switch {
		case err != nil:
			return nil, err
		case kind == nsq.FrameTypeError:
			return nil, nsqError(data)
		case kind != nsq.FrameTypeResponse:
			return nil, errUnexpected
		case string(data) != heartbeat:
			return data, nil
		}
		if err := cn.send(nsq.Nop()); err != nil {
			return nil, err
		}
	}
}

// nsqError is an error frame: a code such as E_BAD_TOPIC and a text.
type nsqError string

// permanent reports whether another attempt, or another nsqd, would give the same
// answer. E_PUB_FAILED is not permanent: an nsqd that shuts down gives it.
func (e nsqError) permanent() bool {
	code, _, _ := strings.Cut(string(e), " ")
	switch code {
	case "E_BAD_TOPIC", "E_BAD_MESSAGE", "E_BAD_BODY", "E_INVALID", "E_UNAUTHORIZED":
		return true
	}
	return false // E_AUTH_FAILED included: the authentication server may have been out of reach
}

// Is makes a message that nsqd refuses for its size a bus.ErrTooLarge.
func (e nsqError) Is(target error) bool {
	return target == bus.ErrTooLarge && strings.HasPrefix(string(e), "E_BAD_MESSAGE PUB message too big") //nolint:errorlint // that is what Is is for
}

func isPermanent(err error) bool {
	var answer nsqError
	return errors.As(err, &answer) && answer.permanent()
}

func (e nsqError) Error() string { return fmt.Sprintf("nsqd answered %.200q", string(e)) }
