package registry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"

	"erlmcp.dev/services/registry/store"
)

// callTimeout bounds every call, whatever its caller's patience, so that nobody waits for a database that froze.
const callTimeout = 30 * time.Second

// domain of the reasons in error details.
const domain = "erlmcp.dev"

// Types of resources in error details.
const (
	typeServer = "server"
	typeView   = "view"
	typeKey    = "key"
)

var errStopping = status.Error(codes.Unavailable, "the registry stops; connect again")

// status is where errors become gRPC's. Those made here pass; the end of the call's own context is told as such; the
// rest is the store's, for the log, and worth another try.
func (s *Service) status(ctx context.Context, doing string, err error) error {
	if refusal, ok := errors.AsType[interface {
		error
		GRPCStatus() *status.Status
	}](err); ok {
		return refusal
	}
	switch ctx.Err() {
	case nil:
	case context.Canceled:
		return status.Errorf(codes.Canceled, "could not %s: the call was cancelled", doing)
	default:
		return status.Errorf(codes.DeadlineExceeded, "could not %s in time; look whether it was done, and try again", doing)
	}
	s.log.ErrorContext(ctx, "the store failed", "doing", doing, "error", err)
	return status.Errorf(codes.Unavailable, "could not %s: the registry's database does not answer; try again", doing)
}

func refuse(code codes.Code, text string, details ...protoadapt.MessageV1) error {
	st := status.New(code, text)
	if detailed, err := st.WithDetails(details...); err == nil {
		st = detailed
	}
	return st.Err()
}

func resource(kind, name, text string) *errdetails.ResourceInfo {
	return &errdetails.ResourceInfo{ResourceType: kind, ResourceName: name, Description: text}
}

func reason(reason string, metadata map[string]string) *errdetails.ErrorInfo {
	return &errdetails.ErrorInfo{Reason: reason, Domain: domain, Metadata: metadata}
}

func notFound(kind, name string) error {
	text := fmt.Sprintf("there is no %s %q", kind, name)
	return refuse(codes.NotFound, text, resource(kind, name, text))
}

// orNotFound names what was not found, where that is the error.
func orNotFound(err error, kind, name string) error {
	if errors.Is(err, store.ErrNotFound) {
		return notFound(kind, name)
	}
	return err
}

// nameInUse: servers and views share one name space.
func nameInUse(holder, name, todo string) error {
	text := fmt.Sprintf("there is a %s named %q already; %s", holder, name, todo)
	return refuse(codes.AlreadyExists, text, resource(holder, name, text), reason("NAME_IN_USE", map[string]string{"holder": holder, "name": name}))
}

// collision: server offers something that another server's is named like.
func collision(server string, taken *store.NameTaken) error {
	text := fmt.Sprintf("servers %q and %q both offer a %s named %q; give %q another prefix", server, taken.Holder, taken.Kind, taken.Name.Name, server)
	return refuse(codes.AlreadyExists, text,
		&errdetails.ResourceInfo{ResourceType: taken.Kind.String(), ResourceName: taken.Name.Name, Owner: taken.Holder, Description: text},
		reason("NAME_COLLISION", map[string]string{"server": server, "other": taken.Holder, "kind": taken.Kind.String(), "name": taken.Name.Name}))
}

func fixed(name string) error {
	text := fmt.Sprintf("server %q is declared in the configuration file; change it there and start the registry again", name)
	return refuse(codes.FailedPrecondition, text, resource(typeServer, name, text), reason("DECLARED", map[string]string{"server": name}))
}

func tooMany(kind string, most int) error {
	text := fmt.Sprintf("there are %d %ss already, which is the most; remove one first", most, kind)
	return refuse(codes.ResourceExhausted, text, reason("TOO_MANY", map[string]string{"kind": kind}))
}

// fieldError is an error: a field has a value that can't be.
type fieldError struct{ field, text string }

// Error implements error.
func (e *fieldError) Error() string { return e.field + ": " + e.text }

// GRPCStatus is the error for callers.
func (e *fieldError) GRPCStatus() *status.Status {
	return status.Convert(refuse(codes.InvalidArgument, e.Error(), &errdetails.BadRequest{
		FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: e.field, Description: e.text}},
	}))
}
