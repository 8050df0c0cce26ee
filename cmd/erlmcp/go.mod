module erlmcp.dev/cmd/erlmcp

go 1.26.0

replace erlmcp.dev/proto => ../../proto

replace erlmcp.dev/shared => ../../shared

replace erlmcp.dev/gateway => ../../gateway

replace erlmcp.dev/services/session => ../../services/session

replace erlmcp.dev/services/registry => ../../services/registry

replace erlmcp.dev/services/metrics => ../../services/metrics

replace erlmcp.dev/examples => ../../examples

require (
	erlmcp.dev/proto v0.0.0
	erlmcp.dev/shared v0.0.0
)
