package rpc

import (
	"fmt"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	optionsv1 "erlmcp.dev/proto/erlmcp/options/v1"
	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	"erlmcp.dev/shared/access"
)

// Access of services that are not ours, beside those that methods declare.
const (
	// open is for anybody, unasked: health.
	open optionsv1.Access = -1
	// look is for viewers, and for anybody where anonymous callers are let in: reflection.
	look optionsv1.Access = -2
)

func permitted(need optionsv1.Access, p access.Principal) error {
	allowed := p.Method == access.MethodService
	switch need {
	case optionsv1.Access_ACCESS_ADMIN:
		allowed = allowed || p.Role == registryv1.Role_ROLE_ADMIN
	case optionsv1.Access_ACCESS_SELF:
		allowed = p.ID != ""
	case optionsv1.Access_ACCESS_VIEWER:
		allowed = allowed || p.Role == registryv1.Role_ROLE_ADMIN || p.Role == registryv1.Role_ROLE_VIEWER
	case look:
		need = optionsv1.Access_ACCESS_VIEWER
		allowed = p.Method == access.MethodAnonymous || permitted(need, p) == nil
	}
	if !allowed {
		return status.Errorf(codes.PermissionDenied, "%v; it needs %s", access.ErrForbidden, strings.ToLower(strings.TrimPrefix(need.String(), "ACCESS_")))
	}
	return nil
}

// permit notes who may call a service's methods. It panics where one does not say so: no caller should find out.
func (c *checks) permit(service *grpc.ServiceDesc) {
	names := make([]string, 0, len(service.Methods)+len(service.Streams))
	for _, m := range service.Methods {
		names = append(names, m.MethodName)
	}
	for _, s := range service.Streams {
		names = append(names, s.StreamName)
	}
	for _, name := range names {
		method := "/" + service.ServiceName + "/" + name
		need, err := declared(method)
		if err != nil {
			panic("rpc: " + err.Error())
		}
		c.needs.Store(method, need)
	}
}

// needOf is who may call a method; services, where nothing is known of it.
func (c *checks) needOf(method string) optionsv1.Access {
	if need, ok := c.needs.Load(method); ok {
		return need.(optionsv1.Access)
	}
	return optionsv1.Access_ACCESS_SERVICE
}

// declared reads a method's access option.
func declared(method string) (optionsv1.Access, error) {
	switch {
	case strings.HasPrefix(method, "/grpc.health.v1."):
		return open, nil
	case strings.HasPrefix(method, "/grpc.reflection."):
		return look, nil
	}
	name := protoreflect.FullName(strings.ReplaceAll(strings.TrimPrefix(method, "/"), "/", "."))
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(name)
	if err != nil {
		return 0, fmt.Errorf("the method %s is not described by any proto file that is linked in", name)
	}
	need, _ := proto.GetExtension(d.Options(), optionsv1.E_Access).(optionsv1.Access)
	if need == optionsv1.Access_ACCESS_UNSPECIFIED {
		return 0, fmt.Errorf("the method %s does not say who may call it; give it the option (erlmcp.options.v1.access)", name)
	}
	return need, nil
}
