package admin

import (
	"context"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	metricsv1 "erlmcp.dev/proto/erlmcp/metrics/v1"
	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	sessionv1 "erlmcp.dev/proto/erlmcp/session/v1"
	"erlmcp.dev/shared/rpc"
)

// Forwarding offers the other services' administrative methods at the gateway's own gRPC port, so that an
// operator needs one address. A call is carried out on behalf of the caller. Streams that answer one request are
// forwarded; others are between services.
type Forwarding struct{ to []forwarded }

type forwarded struct {
	description *grpc.ServiceDesc
	conn        grpc.ClientConnInterface
}

// NewForwarding makes a Forwarding; a nil connection leaves its services out.
func NewForwarding(s Services) *Forwarding {
	f := &Forwarding{}
	for _, one := range []forwarded{
		{&registryv1.RegistryService_ServiceDesc, s.Registry},
		{&registryv1.AccessService_ServiceDesc, s.Registry},
		{&sessionv1.SessionService_ServiceDesc, s.Session},
		{&metricsv1.MetricsService_ServiceDesc, s.Metrics},
	} {
		if one.conn != nil {
			f.to = append(f.to, one)
		}
	}
	return f
}

// Register adds the services to a server.
func (f *Forwarding) Register(to grpc.ServiceRegistrar) {
	for _, s := range f.to {
		description := &grpc.ServiceDesc{
			ServiceName: s.description.ServiceName,
			HandlerType: (*any)(nil),
			Metadata:    s.description.Metadata,
		}
		for _, m := range s.description.Methods {
			handler, err := forward(s.conn, s.description.ServiceName, m.MethodName)
			if err != nil {
				panic("admin: " + err.Error()) // the generated code of this very binary
			}
			description.Methods = append(description.Methods, grpc.MethodDesc{MethodName: m.MethodName, Handler: handler})
		}
		for _, m := range s.description.Streams {
			if m.ClientStreams {
				continue
			}
			handler, err := forwardStream(s.conn, s.description.ServiceName, m.StreamName)
			if err != nil {
				panic("admin: " + err.Error()) // the generated code of this very binary
			}
			description.Streams = append(description.Streams, grpc.StreamDesc{StreamName: m.StreamName, ServerStreams: true, Handler: handler})
		}
		to.RegisterService(description, f)
	}
}

// messages are the types that a method takes and gives.
func messages(service, method string) (in, out protoreflect.MessageType, err error) {
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(service + "." + method))
	if err != nil {
		return nil, nil, fmt.Errorf("%s.%s: %w", service, method, err)
	}
	described := d.(protoreflect.MethodDescriptor)
	in, err = protoregistry.GlobalTypes.FindMessageByName(described.Input().FullName())
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", described.Input().FullName(), err)
	}
	out, err = protoregistry.GlobalTypes.FindMessageByName(described.Output().FullName())
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", described.Output().FullName(), err)
	}
	return in, out, nil
}

// forwardStream passes on what one request is answered with.
func forwardStream(conn grpc.ClientConnInterface, service, method string) (grpc.StreamHandler, error) {
	in, out, err := messages(service, method)
	if err != nil {
		return nil, err
	}
	full := "/" + service + "/" + method
	return func(_ any, to grpc.ServerStream) error {
		req := in.New().Interface()
		if err := to.RecvMsg(req); err != nil {
			return err
		}
		caller, _ := rpc.CallerFromContext(to.Context())
		ctx, cancel := context.WithCancel(rpc.OnBehalf(to.Context(), caller))
		defer cancel()
		from, err := conn.NewStream(ctx, &grpc.StreamDesc{StreamName: method, ServerStreams: true}, full)
		if err == nil {
			err = from.SendMsg(req)
		}
		if err == nil {
			err = from.CloseSend()
		}
		for err == nil {
			response := out.New().Interface()
			if err = from.RecvMsg(response); err == nil {
				err = to.SendMsg(response)
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		return err
	}, nil
}

func forward(conn grpc.ClientConnInterface, service, method string) (grpc.MethodHandler, error) {
	in, out, err := messages(service, method)
	if err != nil {
		return nil, err
	}
	full := "/" + service + "/" + method
	call := func(ctx context.Context, req any) (any, error) {
		response := out.New().Interface()
		caller, _ := rpc.CallerFromContext(ctx)
		return response, conn.Invoke(rpc.OnBehalf(ctx, caller), full, req, response)
	}
	return func(srv any, ctx context.Context, decode func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error) {
		req := in.New().Interface()
		if err := decode(req); err != nil {
			return nil, err
		}
		if interceptor == nil {
			return call(ctx, req)
		}
		return interceptor(ctx, req, &grpc.UnaryServerInfo{Server: srv, FullMethod: full}, call)
	}, nil
}
