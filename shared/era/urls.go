package era

import (
	"encoding/json"
	"strconv"

	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/mcp"
)

// AsksForURLs reports whether an error says that a call must wait until its user visited URLs.
func AsksForURLs(e json.RawMessage) bool {
	return string(jsonrpc.Get(e, "code")) == strconv.Itoa(mcp.CodeURLElicitation)
}

// URLsRequired brings the error by which a legacy server says that its user must first visit URLs (-32042, revision
// 2025-11-25) into the modern era: a result that asks the client for just that, after which the client calls again.
// A client that did not declare that it can is refused as that era asks. Other errors are not changed: result is nil.
func URLsRequired(e, capabilities json.RawMessage) (result, refused json.RawMessage) {
	if !AsksForURLs(e) {
		return nil, e
	}
	var requests jsonrpc.Object
	jsonrpc.Elements(jsonrpc.Get(e, "data", "elicitations"), func(params []byte) bool {
		if params[0] != '{' {
			return true
		}
		var request jsonrpc.Object
		request.Set("method", jsonrpc.String(mcp.MethodElicit))
		request.Set("params", params)
		requests.Set("url_"+strconv.Itoa(requests.Len()+1), request.JSON())
		return true
	})
	if requests.Len() == 0 {
		return nil, e
	}
	if jsonrpc.Get(capabilities, "elicitation", "url") == nil {
		return nil, (&jsonrpc.Error{
			Code: mcp.CodeMissingCapability, Message: "the server's user must visit a URL, and the client did not declare that it can ask for that",
			Data: json.RawMessage(`{"requiredCapabilities":{"elicitation":{"url":{}}}}`),
		}).JSON()
	}
	var o jsonrpc.Object
	o.Set("resultType", jsonrpc.String(mcp.ResultInputRequired))
	o.Set("inputRequests", requests.JSON())
	return o.JSON(), nil
}
