module erlmcp.dev/test

go 1.26.0

replace erlmcp.dev/proto => ../proto

replace erlmcp.dev/shared => ../shared

replace erlmcp.dev/gateway => ../gateway

replace erlmcp.dev/services/session => ../services/session

replace erlmcp.dev/services/registry => ../services/registry

replace erlmcp.dev/services/metrics => ../services/metrics

replace erlmcp.dev/examples => ../examples

replace erlmcp.dev/cmd/erlmcp => ../cmd/erlmcp

require (
	erlmcp.dev/proto v0.0.0
	erlmcp.dev/shared v0.0.0
)

require (
	github.com/google/go-cmp v0.7.0
	github.com/modelcontextprotocol/go-sdk v1.8.0
	go.uber.org/goleak v1.3.0
	golang.org/x/sync v0.24.0
	golang.org/x/sys v0.49.0
)
