package grpcreflect

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
)

// descriptors are what a server says of itself.
type descriptors struct {
	files *protoregistry.Files
	// services in the order of their names, as configured or else all but gRPC's own.
	services []protoreflect.ServiceDescriptor
	// digest is the same exactly where the descriptors are.
	digest string
	// connects is how many connections there had been by the time the server answered.
	connects uint64
}

// Both versions of the reflection service have the same messages on the wire.
var reflectionMethods = []string{
	"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
	"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
}

// readDescriptors asks the server for its services and for every file that they need.
func (p *Peer) readDescriptors(ctx context.Context) (*descriptors, error) {
	var err error
	for _, method := range reflectionMethods {
		var found *descriptors
		if found, err = p.readDescriptorsBy(ctx, method); status.Code(err) != codes.Unimplemented {
			return found, err
		}
	}
	return nil, err
}

func (p *Peer) readDescriptorsBy(ctx context.Context, method string) (*descriptors, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the stream
	stream, err := p.conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, method,
		grpc.MaxCallRecvMsgSize(maxDescriptorBytes))
	if err != nil {
		return nil, err
	}
	r := &reader{stream: stream, files: map[string]*descriptorpb.FileDescriptorProto{}, digests: map[string][sha256.Size]byte{}, left: maxDescriptorBytes}
	listed, err := r.list()
	if err != nil {
		return nil, err
	}
	connects := p.connects.Load()
	wanted, err := chooseServices(listed, p.config.Services)
	if err != nil {
		return nil, err
	}
	for _, name := range wanted {
		if err := r.symbol(name); err != nil {
			if !errors.Is(err, errNotGiven) || len(p.config.Services) > 0 {
				return nil, fmt.Errorf("the service %s: %w", name, err)
			}
			p.config.Log.Warn("a service is left out: the server lists it but has no descriptor of it", "target", p.config.Target, "service", name)
		}
	}
	if err := r.imports(); err != nil {
		return nil, err
	}
	found, err := r.resolve(wanted)
	if err != nil {
		return nil, err
	}
	found.connects = connects
	return found, nil
}

// chooseServices returns the names of the services to offer, in order.
func chooseServices(listed, configured []string) ([]string, error) {
	if len(listed) > maxServices {
		return nil, fmt.Errorf("the server lists %d services; at most %d are read", len(listed), maxServices)
	}
	var chosen []string
	if len(configured) == 0 {
		for _, name := range listed {
			if !strings.HasPrefix(name, "grpc.reflection.") && !strings.HasPrefix(name, "grpc.health.") {
				chosen = append(chosen, name)
			}
		}
	}
	for _, name := range configured {
		if !slices.Contains(listed, name) {
			return nil, fmt.Errorf("the server has no service %q; it lists %s", name, shorten(strings.Join(listed, ", "), maxComment))
		}
		chosen = append(chosen, name)
	}
	slices.Sort(chosen)
	return slices.Compact(chosen), nil
}

// errNotGiven: the server answered that it has no such symbol or file.
var errNotGiven = errors.New("its server reflection does not know it")

// reader asks one reflection stream for files.
type reader struct {
	stream  grpc.ClientStream
	files   map[string]*descriptorpb.FileDescriptorProto
	digests map[string][sha256.Size]byte
	left    int // bytes that may still be read
}

func (r *reader) ask(request *reflectionv1.ServerReflectionRequest) (*reflectionv1.ServerReflectionResponse, error) {
	// After the server ended the stream a send fails with io.EOF; the receive has the reason.
	_ = r.stream.SendMsg(request)
	response := &reflectionv1.ServerReflectionResponse{}
	if err := r.stream.RecvMsg(response); err != nil {
		return nil, err
	}
	if r.left -= proto.Size(response); r.left < 0 {
		return nil, fmt.Errorf("the server's descriptors are longer than %d MiB; name the services to offer", maxDescriptorBytes>>20)
	}
	if e := response.GetErrorResponse(); e != nil {
		if code := codes.Code(e.GetErrorCode()); code != codes.NotFound {
			return nil, fmt.Errorf("%w (%v: %s)", errNotGiven, code, shorten(e.GetErrorMessage(), maxComment))
		}
		return nil, errNotGiven
	}
	return response, nil
}

func (r *reader) list() ([]string, error) {
	response, err := r.ask(&reflectionv1.ServerReflectionRequest{
		MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{ListServices: "*"},
	})
	if err != nil {
		return nil, err
	}
	var names []string
	for _, service := range response.GetListServicesResponse().GetService() {
		names = append(names, service.GetName())
	}
	return names, nil
}

// symbol reads the file that defines a service, unless it came already.
func (r *reader) symbol(service string) error {
	for _, file := range r.files {
		for _, s := range file.GetService() {
			if string(protoreflect.FullName(file.GetPackage()).Append(protoreflect.Name(s.GetName()))) == service {
				return nil
			}
		}
	}
	response, err := r.ask(&reflectionv1.ServerReflectionRequest{
		MessageRequest: &reflectionv1.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: service},
	})
	if err != nil {
		return err
	}
	return r.keep(response)
}

// imports reads what the files import, until nothing is missing. An import that the server does not have is
// left unresolved, as it may serve options only; methods that need it are left out later.
func (r *reader) imports() error {
	asked := map[string]bool{}
	for {
		var missing []string
		for _, file := range r.files {
			for _, path := range file.GetDependency() {
				if r.files[path] == nil && !asked[path] {
					asked[path] = true
					missing = append(missing, path)
				}
			}
		}
		if len(missing) == 0 {
			return nil
		}
		slices.Sort(missing)
		for _, path := range missing {
			if r.files[path] != nil {
				continue // came along with another
			}
			if len(asked) > maxFiles {
				return fmt.Errorf("the server's descriptors have more than %d files; name the services to offer", maxFiles)
			}
			response, err := r.ask(&reflectionv1.ServerReflectionRequest{
				MessageRequest: &reflectionv1.ServerReflectionRequest_FileByFilename{FileByFilename: path},
			})
			if err == nil {
				err = r.keep(response)
			} else if errors.Is(err, errNotGiven) {
				err = r.builtin(path)
			}
			if err != nil {
				return err
			}
		}
	}
}

func (r *reader) keep(response *reflectionv1.ServerReflectionResponse) error {
	for _, raw := range response.GetFileDescriptorResponse().GetFileDescriptorProto() {
		file := &descriptorpb.FileDescriptorProto{}
		if err := proto.Unmarshal(raw, file); err != nil {
			return fmt.Errorf("a file descriptor cannot be read: %w", err)
		}
		if r.files[file.GetName()] != nil {
			continue
		}
		// Servers write the same descriptor in different ways; the digest is of one way.
		one, err := proto.MarshalOptions{Deterministic: true, AllowPartial: true}.Marshal(file)
		if err != nil {
			return fmt.Errorf("a file descriptor cannot be read: %w", err)
		}
		r.files[file.GetName()] = file
		r.digests[file.GetName()] = sha256.Sum256(one)
		if len(r.files) > maxFiles {
			return fmt.Errorf("the server's descriptors have more than %d files; name the services to offer", maxFiles)
		}
	}
	return nil
}

// builtin takes a file from this program where the server keeps to itself what everybody knows, such as
// google/protobuf/timestamp.proto.
func (r *reader) builtin(path string) error {
	if !strings.HasPrefix(path, "google/protobuf/") {
		return nil
	}
	if file, err := protoregistry.GlobalFiles.FindFileByPath(path); err == nil {
		r.files[path] = protodesc.ToFileDescriptorProto(file)
	}
	return nil
}

// resolve links the files.
func (r *reader) resolve(services []string) (*descriptors, error) {
	set := &descriptorpb.FileDescriptorSet{}
	sum := sha256.New()
	fmt.Fprintln(sum, services)
	for _, path := range slices.Sorted(maps.Keys(r.files)) {
		set.File = append(set.File, r.files[path])
		digest := r.digests[path]
		fmt.Fprintf(sum, "%q", path)
		sum.Write(digest[:])
	}
	files, err := protodesc.FileOptions{AllowUnresolvable: true}.NewFiles(set)
	if err != nil {
		return nil, fmt.Errorf("the server's descriptors do not fit together: %w", err)
	}
	found := &descriptors{files: files, digest: hex.EncodeToString(sum.Sum(nil)[:8])}
	for _, name := range services {
		d, err := files.FindDescriptorByName(protoreflect.FullName(name))
		if err != nil {
			continue // said when it was asked for
		}
		service, ok := d.(protoreflect.ServiceDescriptor)
		if !ok {
			return nil, fmt.Errorf("the server lists %q as a service, but it is none", name)
		}
		found.services = append(found.services, service)
	}
	return found, nil
}
