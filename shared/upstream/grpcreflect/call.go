package grpcreflect

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/dynamicpb"

	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/mcp"
	"erlmcp.dev/shared/upstream"
)

// errCallTimeout is the cause where a call took longer than Config.CallTimeout.
var errCallTimeout = errors.New("call timeout")

func (p *Peer) unary(ctx context.Context, m *method, request proto.Message) (upstream.Reply, error) {
	response := dynamicpb.NewMessage(m.output.desc)
	var at peer.Peer // set once there is a stream, so an Addr means that the request may have left
	if err := p.conn.Invoke(ctx, m.path, request, response, grpc.Peer(&at)); err != nil {
		return p.failed(ctx, m, err, at.Addr != nil, nil)
	}
	body, err := p.encoder(m).encode(m.output, response)
	if err != nil {
		return upstream.Reply{Result: errorResult(answerError(m, err), nil)}, nil
	}
	return upstream.Reply{Result: result(body)}, nil
}

var serverStream = &grpc.StreamDesc{ServerStreams: true}

// stream calls a method that streams its answer.
func (p *Peer) stream(ctx context.Context, m *method, request proto.Message, c call) (upstream.Reply, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends a stream that is left early
	var at peer.Peer
	stream, err := p.conn.NewStream(ctx, serverStream, m.path, grpc.Peer(&at))
	if err != nil {
		return p.failed(ctx, m, err, at.Addr != nil, nil)
	}
	if err := stream.SendMsg(request); err != nil && !errors.Is(err, io.EOF) { // after EOF the receive has the reason
		return p.failed(ctx, m, err, true, nil)
	}
	if err := stream.CloseSend(); err != nil {
		return p.failed(ctx, m, err, true, nil)
	}
	all := messages{json: []byte(`{"messages":[`)}
	encoder := p.encoder(m)
	for {
		response := dynamicpb.NewMessage(m.output.desc)
		switch err := stream.RecvMsg(response); {
		case errors.Is(err, io.EOF):
			return upstream.Reply{Result: result(all.close())}, nil
		case err != nil:
			return p.failed(ctx, m, err, true, &all)
		}
		if all.count == p.config.MaxMessages {
			return upstream.Reply{Result: errorResult(fmt.Sprintf("%s sent more than %d messages, the most that one call may bring; the call was ended. Ask for less, if the method lets you.", m.tool, p.config.MaxMessages), nil)}, nil
		}
		body, err := encoder.encode(m.output, response)
		if err == nil && len(all.json)+len(body) > p.config.MaxResult {
			err = errTooLarge{p.config.MaxResult}
		}
		if err != nil {
			return upstream.Reply{Result: errorResult(answerError(m, err), nil)}, nil
		}
		all.add(body)
		if c.progress != nil {
			c.progress.Notification(mcp.MethodProgress, progress(c.token, all.count, body))
		}
	}
}

// messages are what a stream has brought, as the JSON of a result's structure.
type messages struct {
	json  []byte
	count int
}

func (a *messages) add(body json.RawMessage) {
	if a.count++; a.count > 1 {
		a.json = append(a.json, ',')
	}
	a.json = append(a.json, body...)
}

func (a *messages) close() json.RawMessage { return append(a.json, "]}"...) }

// progress is the params of a notification about the message that came as the count-th.
func progress(token json.RawMessage, count int, body json.RawMessage) json.RawMessage {
	var o jsonrpc.Object
	o.Set(mcp.MetaProgressToken, token)
	o.Set("progress", strconv.AppendInt(nil, int64(count), 10))
	o.Set("message", appendQuoted(nil, []byte(shorten(string(body), maxProgressText))))
	return o.JSON()
}

// failed turns the error of a call into its reply. What the service said is a result; only what it cannot
// have heard of is an error. got is what a stream brought before, or nil.
func (p *Peer) failed(ctx context.Context, m *method, err error, sent bool, got *messages) (upstream.Reply, error) {
	st := status.Convert(err)
	if deadline, ok := ctx.Deadline(); ok && st.Code() == codes.DeadlineExceeded && time.Until(deadline) < 50*time.Millisecond {
		<-ctx.Done() // the service's copy of our deadline ran out a moment before ours
	}
	timedOut := errors.Is(context.Cause(ctx), errCallTimeout)
	switch {
	case ctx.Err() != nil && !timedOut:
		return upstream.Reply{}, ctx.Err()
	case p.closed.Load():
		return upstream.Reply{}, fmt.Errorf("calling %s: %w", m.path, upstream.ErrClosed)
	case st.Code() == codes.Unavailable && !sent:
		return upstream.Reply{}, fmt.Errorf("calling %s at %s: %w: %s", m.path, p.config.Target, upstream.ErrNotSent, st.Message())
	}
	text := statusText(st)
	switch {
	case timedOut:
		text = fmt.Sprintf("DEADLINE_EXCEEDED: %s did not answer within %v. Whether it was carried out is unknown.", m.tool, p.config.CallTimeout)
		st = status.New(codes.DeadlineExceeded, "the call's time ran out")
	case st.Code() == codes.Unavailable && sent:
		text += "\nThe service became unavailable during the call; whether it was carried out is unknown."
	}
	whole, details := p.encoder(m).status(st)
	reply := errorResult(text, whole)
	if details != nil {
		reply = withContent(reply, "Details: "+string(details))
	}
	if got != nil && got.count > 0 {
		reply = withContent(reply, fmt.Sprintf("Before that came %d messages:", got.count), string(got.close()))
	}
	return upstream.Reply{Result: reply}, nil
}

// answerError says that an answer came and cannot be passed on.
func answerError(m *method, err error) string {
	return fmt.Sprintf("%s was carried out, but its answer cannot be shown: %v", m.tool, err)
}
