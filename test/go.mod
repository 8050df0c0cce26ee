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

require erlmcp.dev/shared v0.0.0

require (
	github.com/google/go-cmp v0.7.0
	github.com/modelcontextprotocol/go-sdk v1.8.0
	go.uber.org/goleak v1.3.0
	golang.org/x/sync v0.24.0
	golang.org/x/sys v0.49.0
)

require (
	github.com/coder/websocket v1.8.15 // indirect
	github.com/google/jsonschema-go v0.4.3 // indirect
	github.com/jackc/pgpassfile v1.0.0 // indirect
	github.com/jackc/pgservicefile v0.0.0-20240606120523-5a60cdf6a761 // indirect
	github.com/jackc/pgx/v5 v5.12.0 // indirect
	github.com/segmentio/asm v1.2.1 // indirect
	github.com/segmentio/encoding v0.5.4 // indirect
	github.com/stretchr/testify v1.12.1 // indirect
	github.com/yosida95/uritemplate/v3 v3.0.2 // indirect
	golang.org/x/oauth2 v0.37.0 // indirect
	golang.org/x/text v0.43.0 // indirect
	golang.org/x/time v0.15.0 // indirect
)
