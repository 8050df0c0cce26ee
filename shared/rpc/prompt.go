package rpc

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// promptKey is in the metadata of calls whose callers want to hear at once that the server has them.
const promptKey = "erlmcp-prompt"

// Prompt is a channel for operators' calls to other processes, whose servers say at once that they have a call, however
// long it takes. One that says nothing for so long is frozen or cut off, which gRPC itself would notice
// after 15 s: the call ends as UNAVAILABLE, and may have been carried out.
func Prompt(conn grpc.ClientConnInterface, within time.Duration) grpc.ClientConnInterface {
	return prompt{conn, within}
}

type prompt struct {
	grpc.ClientConnInterface
	within time.Duration
}

var errSilent = errors.New("the service does not answer")

// Invoke implements grpc.ClientConnInterface.
func (p prompt) Invoke(ctx context.Context, method string, req, response any, options ...grpc.CallOption) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	ctx = metadata.AppendToOutgoingContext(ctx, promptKey, "1")
	silent := time.AfterFunc(p.within, func() { cancel(errSilent) })
	defer silent.Stop()
	err := p.invoke(ctx, method, req, response, silent, options)
	if err != nil && errors.Is(context.Cause(ctx), errSilent) {
		return status.Error(codes.Unavailable, "the service does not answer; look whether it was done, and try again")
	}
	return err
}

func (p prompt) invoke(ctx context.Context, method string, req, response any, silent *time.Timer, options []grpc.CallOption) error {
	stream, err := p.NewStream(ctx, &grpc.StreamDesc{}, method, options...)
	if err != nil {
		return err
	}
	if err := stream.SendMsg(req); err != nil {
		return err
	}
	if _, err := stream.Header(); err != nil {
		return err
	}
	silent.Stop()
	return stream.RecvMsg(response)
}
