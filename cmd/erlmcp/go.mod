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

require (
	github.com/google/go-cmp v0.7.0 // indirect
	github.com/inconshreveable/mousetrap v1.1.0 // indirect
	github.com/spf13/cobra v1.10.2 // indirect
	github.com/spf13/pflag v1.0.9 // indirect
	go.uber.org/goleak v1.3.0 // indirect
	golang.org/x/net v0.62.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
	golang.org/x/text v0.43.0 // indirect
	google.golang.org/genproto/googleapis/rpc v0.0.0-20261019180522-ce908d29299b // indirect
	google.golang.org/grpc v1.85.0 // indirect
	google.golang.org/protobuf v1.36.12 // indirect
)
