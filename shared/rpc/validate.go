package rpc

import (
	"errors"
	"fmt"
	"strings"

	"buf.build/go/protovalidate"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// maxViolations is how many violations of one request are told.
const maxViolations = 20

// validate holds a request against its proto's rules: INVALID_ARGUMENT with each field's violation.
func (c *checks) validate(req any) error {
	m, ok := req.(proto.Message)
	if !ok {
		return nil
	}
	err := c.validator.Validate(m)
	if err == nil {
		return nil
	}
	var invalid *protovalidate.ValidationError
	if !errors.As(err, &invalid) {
		return fmt.Errorf("validating a request: %w", err)
	}
	bad := &errdetails.BadRequest{}
	var texts []string
	for _, v := range invalid.Violations[:min(len(invalid.Violations), maxViolations)] {
		field, message := protovalidate.FieldPathString(v.Proto.GetField()), v.Proto.GetMessage()
		bad.FieldViolations = append(bad.FieldViolations, &errdetails.BadRequest_FieldViolation{
			Field: field, Description: message, Reason: v.Proto.GetRuleId(),
		})
		if field != "" {
			message = field + ": " + message
		}
		texts = append(texts, message)
	}
	st := status.New(codes.InvalidArgument, strings.Join(texts, "; "))
	if detailed, err := st.WithDetails(bad); err == nil {
		st = detailed
	}
	return st.Err()
}
