package rpc

import (
	"context"
	"errors"
	"io"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// inFlight is how many messages of a stream wait in each direction; its sender waits beyond it.
const inFlight = 8

// NewStream implements grpc.ClientConnInterface. As with any gRPC channel, a stream that is not read to its end
// lives until ctx ends.
func (l *Local) NewStream(ctx context.Context, _ *grpc.StreamDesc, method string, options ...grpc.CallOption) (grpc.ClientStream, error) {
	m, err := l.begin(ctx, method, true)
	if err != nil {
		return nil, err
	}
	s := &localStream{
		ctx:        ctx,
		toServer:   make(chan proto.Message, inFlight),
		toClient:   make(chan proto.Message, inFlight),
		headerSent: make(chan struct{}),
		done:       make(chan struct{}),
		single:     !m.stream.ServerStreams,
	}
	s.headers = localHeaders{method: method, onSent: func() { close(s.headerSent) }}
	handling, cancel := context.WithCancel(handlerContext(ctx, &s.headers))
	info := &grpc.StreamServerInfo{FullMethod: method, IsClientStream: m.stream.ClientStreams, IsServerStream: m.stream.ServerStreams}
	go func() {
		defer l.end()
		s.err = l.checks.stream(m.service, &localServerStream{s, handling}, info, m.stream.Handler)
		cancel()
		s.headers.send()
		s.headers.finished(options, s.err)
		close(s.done)
	}()
	return (*localClientStream)(s), nil
}

// localStream is a stream as both of its ends see it.
type localStream struct {
	ctx                context.Context // the caller's
	headers            localHeaders
	toServer, toClient chan proto.Message // toServer is closed by CloseSend
	headerSent         chan struct{}      // closed with the first of header, message and end
	done               chan struct{}      // closed when the handler has ended; err is set then
	err                error
	single             bool // the server sends exactly one message

	closeSend sync.Once
}

// localServerStream is the handler's end.
type localServerStream struct {
	*localStream
	ctx context.Context
}

// Context implements grpc.ServerStream.
func (s *localServerStream) Context() context.Context { return s.ctx }

// SetHeader implements grpc.ServerStream.
func (s *localServerStream) SetHeader(md metadata.MD) error { return s.headers.SetHeader(md) }

// SendHeader implements grpc.ServerStream.
func (s *localServerStream) SendHeader(md metadata.MD) error { return s.headers.SendHeader(md) }

// SetTrailer implements grpc.ServerStream.
func (s *localServerStream) SetTrailer(md metadata.MD) { _ = s.headers.SetTrailer(md) } // never fails

// SendMsg implements grpc.ServerStream.
func (s *localServerStream) SendMsg(m any) error {
	copied, err := cloneMessage(m)
	if err != nil {
		return err
	}
	s.headers.send()
	if s.ctx.Err() == nil {
		select {
		case s.toClient <- copied:
			return nil
		case <-s.ctx.Done():
		}
	}
	return status.FromContextError(s.ctx.Err()).Err()
}

// RecvMsg implements grpc.ServerStream.
func (s *localServerStream) RecvMsg(m any) error {
	select {
	case message, open := <-s.toServer:
		if !open {
			return io.EOF
		}
		return moveMessage(m, message)
	case <-s.ctx.Done():
		return status.FromContextError(s.ctx.Err()).Err()
	}
}

// localClientStream is the caller's end.
type localClientStream localStream

// Context implements grpc.ClientStream.
func (s *localClientStream) Context() context.Context { return s.ctx }

// Header implements grpc.ClientStream.
func (s *localClientStream) Header() (metadata.MD, error) {
	select {
	case <-s.headerSent:
		header, _ := s.headers.get()
		return header, nil
	case <-s.ctx.Done():
		return nil, status.FromContextError(s.ctx.Err()).Err()
	}
}

// Trailer implements grpc.ClientStream.
func (s *localClientStream) Trailer() metadata.MD {
	select {
	case <-s.done:
		_, trailer := s.headers.get()
		return trailer
	default:
		return nil
	}
}

// CloseSend implements grpc.ClientStream.
func (s *localClientStream) CloseSend() error {
	s.closeSend.Do(func() { close(s.toServer) })
	return nil
}

// SendMsg implements grpc.ClientStream. It returns io.EOF where the stream has ended; RecvMsg says how.
func (s *localClientStream) SendMsg(m any) error {
	copied, err := cloneMessage(m)
	if err != nil {
		return err
	}
	select {
	case <-s.done:
		return io.EOF
	case <-s.ctx.Done():
		return io.EOF
	default:
	}
	select {
	case s.toServer <- copied:
		return nil
	case <-s.done:
	case <-s.ctx.Done():
	}
	return io.EOF
}

// RecvMsg implements grpc.ClientStream.
func (s *localClientStream) RecvMsg(m any) error {
	message, err := s.receive()
	if err != nil {
		return err
	}
	if !s.single {
		return moveMessage(m, message)
	}
	switch _, err := s.receive(); {
	case err == nil:
		return status.Error(codes.Internal, "the method sent more than its one message")
	case !errors.Is(err, io.EOF):
		return err
	}
	return moveMessage(m, message)
}

// receive returns the next message, io.EOF after the last one, or the status that the stream ended with.
func (s *localClientStream) receive() (proto.Message, error) {
	select {
	case message := <-s.toClient:
		return message, nil
	default:
	}
	select {
	case message := <-s.toClient:
		return message, nil
	case <-s.done:
	case <-s.ctx.Done():
		return nil, status.FromContextError(s.ctx.Err()).Err()
	}
	select {
	case message := <-s.toClient: // sent before the end
		return message, nil
	default:
	}
	if s.err != nil {
		return nil, s.err
	}
	return nil, io.EOF
}

func cloneMessage(m any) (proto.Message, error) {
	message, ok := m.(proto.Message)
	if !ok {
		return nil, status.Errorf(codes.Internal, "%T is no protobuf message", m)
	}
	return proto.Clone(message), nil
}
