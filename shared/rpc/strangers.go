package rpc

import (
	"context"
	"errors"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/status"
)

// strangers are callers who don't say who they are. They may ask for health, a few at a time, each for a moment: the message
// of any call may be as long as MaxMessage.
type strangers chan struct{}

const (
	maxStrangers = 16
	strangerTime = 5 * time.Second
)

// admit gives a stranger's call a place until its context ends, which is in a moment.
func (s strangers) admit(ctx context.Context) (context.Context, error) {
	select {
	case s <- struct{}{}:
	default:
		return ctx, status.Error(codes.ResourceExhausted, "too many callers without a credential at a time; give one, or try again")
	}
	ctx, cancel := context.WithTimeout(ctx, strangerTime)
	context.AfterFunc(ctx, func() {
		cancel()
		<-s
	})
	return ctx, nil
}

// refuseCompressed is for messages of callers: a short one could take up much memory. Clients of ours, in the same process, do
// take compressed answers, and what they register for that would hold for servers too.
func refuseCompressed() grpc.ServerOption {
	return grpc.RPCDecompressor(uncompressed{}) //nolint:staticcheck // the way that is left to a server alone
}

type uncompressed struct{}

// Type implements grpc.Decompressor.
func (uncompressed) Type() string { return gzip.Name }

// Do implements grpc.Decompressor.
func (uncompressed) Do(io.Reader) ([]byte, error) {
	return nil, errors.New("compressed messages are not taken; send them as they are")
}
