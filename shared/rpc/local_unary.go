package rpc

import (
	"context"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Invoke implements grpc.ClientConnInterface.
func (l *Local) Invoke(ctx context.Context, method string, req, response any, options ...grpc.CallOption) error {
	m, err := l.begin(ctx, method, false)
	if err != nil {
		return err
	}
	c := &localCall{headers: localHeaders{method: method}, req: req, done: make(chan struct{})}
	go func() {
		defer l.end()
		defer close(c.done)
		c.response, c.err = m.unary(m.service, handlerContext(ctx, &c.headers), c.receive, l.checks.unary)
	}()
	select {
	case <-c.done:
		err = c.err
		if err == nil {
			err = copyMessage(response, c.response)
		}
	case <-ctx.Done():
		c.abandon()
		err = status.FromContextError(ctx.Err()).Err()
	}
	c.headers.finished(options, err)
	return err
}

// localCall is a unary call.
type localCall struct {
	headers localHeaders
	done    chan struct{} // closed when response and err are set
	// response is the handler's, which may keep it.
	response any
	err      error

	mu  sync.Mutex
	req any // the caller's, which it may change once it has its answer; nil from then on
}

// receive copies the request for the handler.
func (c *localCall) receive(into any) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.req == nil {
		return status.Error(codes.Canceled, "the call was cancelled")
	}
	return copyMessage(into, c.req)
}

// abandon is for a caller that does not wait any longer: its request is not touched any more.
func (c *localCall) abandon() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.req = nil
}

// copyMessage makes into equal to from, sharing nothing.
func copyMessage(into, from any) error {
	to, ok := into.(proto.Message)
	message, alsoOK := from.(proto.Message)
	if !ok || !alsoOK {
		return status.Errorf(codes.Internal, "%T to %T: both must be protobuf messages", from, into)
	}
	if to.ProtoReflect().Descriptor() != message.ProtoReflect().Descriptor() {
		return convertMessage(to, message)
	}
	proto.Reset(to)
	proto.Merge(to, message)
	return nil
}

// moveMessage makes into equal to from, which nobody uses afterwards: what from refers to is not copied.
func moveMessage(into any, from proto.Message) error {
	message, ok := into.(proto.Message)
	if !ok {
		return status.Errorf(codes.Internal, "%T must be a protobuf message", into)
	}
	to, source := message.ProtoReflect(), from.ProtoReflect()
	if to.Type() != source.Type() {
		return convertMessage(message, from)
	}
	proto.Reset(message)
	source.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		to.Set(field, value)
		return true
	})
	to.SetUnknown(source.GetUnknown())
	return nil
}

// convertMessage copies between Go types of one message, such as a generated and a dynamic one.
func convertMessage(into, from proto.Message) error {
	wire, err := proto.Marshal(from)
	if err == nil {
		err = proto.Unmarshal(wire, into)
	}
	if err != nil {
		return status.Errorf(codes.Internal, "the message %T does not fit %T", from, into)
	}
	return nil
}
