package owners

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	sessionv1 "erlmcp.dev/proto/erlmcp/session/v1"
)

// Follow is a channel to SessionService for operators: a call that reaches an owner who has not the session goes to
// the one that has it. any reaches some owner, dial the one at an address.
func Follow(any grpc.ClientConnInterface, dial func(address string) (grpc.ClientConnInterface, error)) grpc.ClientConnInterface {
	return following{any, dial}
}

// maxAsked is how many owners are asked that take no sessions now.
const maxAsked = 5

type following struct {
	grpc.ClientConnInterface
	dial func(address string) (grpc.ClientConnInterface, error)
}

// Invoke implements grpc.ClientConnInterface.
func (f following) Invoke(ctx context.Context, method string, req, response any, options ...grpc.CallOption) error {
	var err error
	address := ""
	for range maxAsked {
		err = f.ClientConnInterface.Invoke(ctx, method, req, response, options...)
		if address = elsewhere(err); status.Code(err) != codes.FailedPrecondition || address != "" {
			break
		}
		select { // that one stops or starts, or leaves the session to others
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return err
		}
	}
	shown, isShown := response.(*sessionv1.GetSessionResponse)
	if err == nil && isShown {
		address = shown.GetSession().GetAddress() // who knows more of it
	}
	if address == "" {
		return err
	}
	owner, dialled := f.dial(address)
	if dialled != nil {
		return err
	}
	if !isShown {
		return owner.Invoke(ctx, method, req, response, options...)
	}
	var more sessionv1.GetSessionResponse
	if owner.Invoke(ctx, method, req, &more, options...) == nil {
		proto.Reset(shown)
		proto.Merge(shown, &more)
	}
	return err
}

// elsewhere is the address of the owner that an error names; empty where it names none.
func elsewhere(err error) string {
	if status.Code(err) != codes.FailedPrecondition {
		return ""
	}
	for _, detail := range status.Convert(err).Details() {
		if facts, ok := detail.(*sessionv1.SessionFacts); ok {
			return facts.GetAddress()
		}
	}
	return ""
}
