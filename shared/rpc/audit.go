package rpc

import (
	"strings"

	"github.com/google/uuid"
	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/timestamppb"

	metricsv1 "erlmcp.dev/proto/erlmcp/metrics/v1"
)

// maxObject is the longest object of an audit event, in bytes.
const maxObject = 512

// auditEvent describes an administrative call that ended.
func auditEvent(node string, running *call, req any, err error) *metricsv1.AuditEvent {
	return &metricsv1.AuditEvent{
		Id:        uuid.Must(uuid.NewV7()).String(), // fails only where there is no randomness at all
		At:        timestamppb.New(running.began),
		Node:      node,
		Principal: running.caller.ID,
		Method:    strings.TrimPrefix(running.method, "/"),
		Object:    object(running.method, req),
		Outcome:   code.Code(status.Code(err)).String(),
	}
}

// object is what a call is about. The method's HTTP path names it, as in /servers/{name}; where something is made,
// it is the first of the fields that name things.
func object(method string, req any) string {
	m, ok := req.(proto.Message)
	if !ok {
		return ""
	}
	path := []string{}
	if d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(strings.ReplaceAll(strings.TrimPrefix(method, "/"), "/", "."))); err == nil {
		rule, _ := proto.GetExtension(d.Options(), annotations.E_Http).(*annotations.HttpRule)
		path = append(path, variable(rule))
	}
	for _, p := range append(path, "name", "server.name", "view.name", "principal", "id") {
		if text := textAt(m.ProtoReflect(), p); text != "" {
			return strings.ToValidUTF8(text[:min(len(text), maxObject)], "")
		}
	}
	return ""
}

// variable is the field path in braces of a rule's HTTP path.
func variable(rule *annotations.HttpRule) string {
	var path string
	switch p := rule.GetPattern().(type) {
	case *annotations.HttpRule_Post:
		path = p.Post
	case *annotations.HttpRule_Put:
		path = p.Put
	case *annotations.HttpRule_Delete:
		path = p.Delete
	}
	_, rest, _ := strings.Cut(path, "{")
	name, _, _ := strings.Cut(rest, "}")
	return name
}

// textAt reads the string field at a path such as "server.name".
func textAt(m protoreflect.Message, path string) string {
	name, rest, nested := strings.Cut(path, ".")
	field := m.Descriptor().Fields().ByName(protoreflect.Name(name))
	switch {
	case field == nil || field.IsList() || field.IsMap():
		return ""
	case nested && field.Message() != nil:
		return textAt(m.Get(field).Message(), rest)
	case !nested && field.Kind() == protoreflect.StringKind:
		return m.Get(field).String()
	}
	return ""
}
