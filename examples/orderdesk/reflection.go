package orderdesk

import (
	_ "embed"
	"errors"

	"google.golang.org/grpc"
	"google.golang.org/grpc/reflection"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	reflectionv1alpha "google.golang.org/grpc/reflection/grpc_reflection_v1alpha"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
)

// The descriptors in generated Go code have no comments. This is the same file with them, as buf or
// protoc --include_source_info write it:
//
//	buf build --path examples/orderdesk --exclude-imports -o examples/orderdesk/v1/orderdesk.binpb
//
//go:embed v1/orderdesk.binpb
var sources []byte

// registerReflection is reflection.Register with comments.
func registerReflection(server *grpc.Server) {
	options := reflection.ServerOptions{Services: server, DescriptorResolver: commented()}
	reflectionv1.RegisterServerReflectionServer(server, reflection.NewServerV1(options))
	reflectionv1alpha.RegisterServerReflectionServer(server, reflection.NewServer(options))
}

// commented finds the files of sources, and all others among those linked into the program. Where sources
// cannot be read, which no test lets pass, the comments are missing and nothing else.
func commented() protodesc.Resolver {
	var set descriptorpb.FileDescriptorSet
	var files protoregistry.Files
	if err := proto.Unmarshal(sources, &set); err != nil {
		return protoregistry.GlobalFiles
	}
	for _, raw := range set.GetFile() {
		file, err := protodesc.NewFile(raw, protoregistry.GlobalFiles)
		if err != nil || files.RegisterFile(file) != nil {
			return protoregistry.GlobalFiles
		}
	}
	return overlay{&files, protoregistry.GlobalFiles}
}

// overlay looks into one registry, then into the other.
type overlay struct{ first, then protodesc.Resolver }

func (o overlay) FindFileByPath(path string) (protoreflect.FileDescriptor, error) {
	file, err := o.first.FindFileByPath(path)
	if errors.Is(err, protoregistry.NotFound) {
		return o.then.FindFileByPath(path)
	}
	return file, err
}

func (o overlay) FindDescriptorByName(name protoreflect.FullName) (protoreflect.Descriptor, error) {
	d, err := o.first.FindDescriptorByName(name)
	if errors.Is(err, protoregistry.NotFound) {
		return o.then.FindDescriptorByName(name)
	}
	return d, err
}
