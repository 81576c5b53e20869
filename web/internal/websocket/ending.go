package websocket

import (
	"errors"
	"fmt"
	"net"

	"github.com/gorilla/websocket"
)

var (
	errBinary  = errors.New("a binary message")
	errNotUTF8 = errors.New("a text message that is not UTF-8")
	errEnded   = errors.New("a handler ended the session's goroutine")
)

// Farewell returns the close frame that answers the error with which reading ended, or nil if
// there is none to send.
func (c *Conn) Farewell(err error) []byte {
	if c.farewell != nil { // gorilla has made one: the protocol was broken
		return *c.farewell
	}
	var closed *websocket.CloseError
	switch {
	case errors.Is(err, errBinary):
		return closeFrame(websocket.CloseUnsupportedData, "text messages only")
	case errors.Is(err, errNotUTF8):
		return closeFrame(websocket.CloseInvalidFramePayloadData, "not UTF-8")
	case errors.Is(err, websocket.ErrReadLimit): // for most lengths gorilla has made a frame
		return closeFrame(websocket.CloseMessageTooBig, "")
	case errors.Is(err, errEnded):
		return closeFrame(websocket.CloseInternalServerErr, "")
	case errors.As(err, &closed) && closed.Code != websocket.CloseAbnormalClosure:
		return closeFrame(closed.Code, "")
	default:
		return nil
	}
}

// Cause returns in one of few texts why reading ended: the text of err may be the client's.
func Cause(err error) string {
	var closed *websocket.CloseError
	switch {
	case errors.Is(err, errBinary), errors.Is(err, errNotUTF8), errors.Is(err, errEnded):
		return err.Error()
	case errors.Is(err, websocket.ErrReadLimit):
		return "a message larger than MaxMessageBytes"
	case errors.As(err, &closed) && closed.Code != websocket.CloseAbnormalClosure:
		return fmt.Sprint("the client closed with code ", closed.Code)
	case IsTimeout(err):
		return "nothing was heard of it for too long"
	default:
		return "the connection broke"
	}
}

// IsTimeout reports whether reading ended because nothing came in time.
func IsTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}
