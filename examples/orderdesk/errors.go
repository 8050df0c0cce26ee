package orderdesk

import (
	"errors"
	"fmt"

	"buf.build/go/protovalidate"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/protoadapt"
)

// check applies the rules that v1/orderdesk.proto gives for a request.
func check(in proto.Message) error {
	err := protovalidate.Validate(in)
	var broken *protovalidate.ValidationError
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &broken):
		return status.Errorf(codes.Internal, "the request's rules cannot be applied: %v", err)
	}
	details := &errdetails.BadRequest{}
	for _, v := range broken.Violations {
		details.FieldViolations = append(details.FieldViolations, &errdetails.BadRequest_FieldViolation{
			Field:       protovalidate.FieldPathString(v.Proto.GetField()),
			Description: v.Proto.GetMessage(),
		})
	}
	first := details.GetFieldViolations()[0]
	return failure(codes.InvalidArgument, first.GetField()+": "+first.GetDescription(), details)
}

func invalid(field, description string) error {
	return failure(codes.InvalidArgument, field+": "+description, &errdetails.BadRequest{
		FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: field, Description: description}},
	})
}

func notFound(kind, name string) error {
	return failure(codes.NotFound, fmt.Sprintf("there is no %s %q", kind, name), &errdetails.ResourceInfo{
		ResourceType: kind, ResourceName: name,
	})
}

func precondition(kind, subject, description string) error {
	return failure(codes.FailedPrecondition, description, &errdetails.PreconditionFailure{
		Violations: []*errdetails.PreconditionFailure_Violation{{Type: kind, Subject: subject, Description: description}},
	})
}

// failure makes a status with a detail, or without where it cannot be attached.
func failure(code codes.Code, message string, detail protoadapt.MessageV1) error {
	st := status.New(code, message)
	if with, err := st.WithDetails(detail); err == nil {
		st = with
	}
	return st.Err()
}
