package grpcreflect

import (
	"strings"

	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

// types finds the messages that stand in a google.protobuf.Any, among the server's own and those that this
// program was built with, such as the details of errors. It never asks a server.
type types struct{ own *dynamicpb.Types }

func (t types) FindMessageByName(name protoreflect.FullName) (protoreflect.MessageType, error) {
	if found, err := t.own.FindMessageByName(name); err == nil {
		return found, nil
	}
	return protoregistry.GlobalTypes.FindMessageByName(name)
}

func (t types) FindMessageByURL(url string) (protoreflect.MessageType, error) {
	return t.FindMessageByName(protoreflect.FullName(url[strings.LastIndexByte(url, '/')+1:]))
}

func (t types) FindExtensionByName(name protoreflect.FullName) (protoreflect.ExtensionType, error) {
	return t.own.FindExtensionByName(name)
}

func (t types) FindExtensionByNumber(message protoreflect.FullName, field protoreflect.FieldNumber) (protoreflect.ExtensionType, error) {
	return t.own.FindExtensionByNumber(message, field)
}

// lenient is types for writing: a type that nobody knows is shown by its name alone ({"@type": ...}), so that
// one unknown detail does not cost the client the whole answer.
type lenient struct{ types }

func (l lenient) FindMessageByURL(url string) (protoreflect.MessageType, error) {
	found, err := l.types.FindMessageByURL(url)
	if err != nil {
		return opaque(protoreflect.FullName(url[strings.LastIndexByte(url, '/')+1:]))
	}
	return found, nil
}

// opaque makes a message type without fields.
func opaque(name protoreflect.FullName) (protoreflect.MessageType, error) {
	if !name.IsValid() {
		return nil, protoregistry.NotFound
	}
	simple, pkg, syntax, path := string(name.Name()), string(name.Parent()), "proto3", "opaque.proto"
	file, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: &path, Package: &pkg, Syntax: &syntax,
		MessageType: []*descriptorpb.DescriptorProto{{Name: &simple}},
	}, nil)
	if err != nil {
		return nil, protoregistry.NotFound
	}
	return dynamicpb.NewMessageType(file.Messages().Get(0)), nil
}
