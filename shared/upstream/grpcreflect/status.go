package grpcreflect

import (
	"encoding/json"
	"fmt"
	"strconv"

	"google.golang.org/genproto/googleapis/rpc/code"
	_ "google.golang.org/genproto/googleapis/rpc/errdetails" // the usual details of errors
	"google.golang.org/grpc/status"

	"erlmcp.dev/shared/jsonrpc"
)

// metaStatus is the key in a failed result's _meta for the gRPC status: {"code": "NOT_FOUND", "number": 5,
// "message": "...", "details": [...]}. Details are left out where they are too long or cannot be shown.
const metaStatus = "dev.erlmcp/grpcStatus"

// statusText is "CODE: message".
func statusText(st *status.Status) string {
	return fmt.Sprintf("%s: %s", codeName(st), shorten(st.Message(), maxStatusText))
}

func codeName(st *status.Status) string {
	if name, ok := code.Code_name[int32(st.Code())]; ok {
		return name
	}
	return fmt.Sprintf("CODE_%d", st.Code())
}

// status returns the status as JSON, and its details alone, or nil.
func (e encoder) status(st *status.Status) (whole, details json.RawMessage) {
	var o jsonrpc.Object
	o.Set("code", jsonrpc.String(codeName(st)))
	o.Set("number", strconv.AppendInt(nil, int64(st.Code()), 10))
	o.Set("message", jsonrpc.String(shorten(st.Message(), maxStatusText)))
	e.limit = maxStatusDetail
	details = json.RawMessage{'['}
	for _, detail := range st.Proto().GetDetails() {
		raw, err := e.json(detail)
		if err != nil || len(details)+len(raw) > maxStatusDetail {
			continue
		}
		if len(details) > 1 {
			details = append(details, ',')
		}
		details = append(details, raw...)
	}
	if len(details) == 1 {
		return o.JSON(), nil
	}
	details = append(details, ']')
	o.Set("details", details)
	return o.JSON(), details
}
