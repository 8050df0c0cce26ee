package channel

import (
	"context"
	"errors"
)

// Conn carries whole messages both ways. Read is called by one goroutine at a time, and so is Write; Close may be
// called by any, and makes both return.
type Conn interface {
	// Read returns the next message, in memory of its own: [ErrTooLong], [ErrNotText], [ErrFinished], io.EOF where
	// the client sends nothing more but may still read, or any other error when the connection broke. It waits
	// until there is a message or Close is called.
	Read() ([]byte, error)
	// Write sends one message, given in pieces. It fails when ctx ends before the message is written.
	Write(ctx context.Context, pieces [][]byte) error
	// Close ends the connection, and tells why as far as the transport can. Only the first call counts.
	Close(why Reason)
}

// Errors of Conn.Read.
var (
	// ErrTooLong: a message is longer than the limit. It was skipped where the Conn is one that Skips, else the
	// connection ends.
	ErrTooLong = errors.New("the message is longer than the limit")
	// ErrNotText: a message is not text. The connection ends.
	ErrNotText = errors.New("messages must be text")
	// ErrFinished: the client closed the connection and won't come back to its session.
	ErrFinished = errors.New("the client has finished")
)

// Skips is a Conn that can read on behind a message that was too long.
type Skips interface{ Skips() }

// Reason is why a connection ends.
type Reason int

// Reasons.
const (
	// Gone: the client ended it, or it broke.
	Gone Reason = iota
	// Draining: this gateway stops, and took nothing that it did not answer; another serves.
	Draining
	// CutOff: this gateway stops, and could not wait for all that it took.
	CutOff
	// NotText: the client sent something else than text.
	NotText
	// Unauthorized: the client's credential is no longer valid.
	Unauthorized
	// TooSlow: the client does not read what it is sent.
	TooSlow
	// TooLong: the client sent a message that is too long.
	TooLong
	// Displaced: the session went on on another connection.
	Displaced
	// Failed: an error here.
	Failed
)

// String is what a client may be told.
func (r Reason) String() string {
	switch r {
	case Gone:
		return "goodbye"
	case Draining:
		return "this gateway is stopping; reconnect"
	case CutOff:
		return "this gateway had to stop before all was answered; reconnect"
	case NotText:
		return "messages must be text"
	case Unauthorized:
		return "the credential is no longer valid"
	case TooSlow:
		return "the client reads too slowly"
	case TooLong:
		return "the message is too long"
	case Displaced:
		return "the session went on on another connection"
	}
	return "internal error"
}
