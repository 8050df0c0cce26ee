module erlmcp.dev/services/session

go 1.26.0

replace erlmcp.dev/proto => ../../proto

replace erlmcp.dev/shared => ../../shared

replace erlmcp.dev/gateway => ../../gateway

replace erlmcp.dev/services/registry => ../../services/registry

replace erlmcp.dev/services/metrics => ../../services/metrics

replace erlmcp.dev/examples => ../../examples

replace erlmcp.dev/cmd/erlmcp => ../../cmd/erlmcp

require (
	erlmcp.dev/proto v0.0.0
	erlmcp.dev/shared v0.0.0
)

require (
	github.com/cespare/xxhash/v2 v2.3.0 // indirect
	github.com/google/go-cmp v0.7.0 // indirect
	github.com/google/uuid v1.6.0 // indirect
	github.com/redis/go-redis/v9 v9.23.0 // indirect
	go.uber.org/atomic v1.12.0 // indirect
	go.uber.org/goleak v1.3.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
	pgregory.net/rapid v1.3.0 // indirect
)
