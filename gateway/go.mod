module erlmcp.dev/gateway

go 1.26.0

replace erlmcp.dev/proto => ../proto

replace erlmcp.dev/shared => ../shared

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
	github.com/google/uuid v1.6.0 // indirect
	github.com/grpc-ecosystem/grpc-gateway/v2 v2.33.0 // indirect
)
