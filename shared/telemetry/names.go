package telemetry

// Values of the label transport. Every other value counts as [Other].
const (
	TransportStdio     = "stdio"
	TransportTCP       = "tcp"
	TransportHTTP      = "http"
	TransportWebSocket = "websocket"
	TransportSSE       = "sse"
)

// Other stands for every transport and method that is not known. Labels come from clients: without it each invented
// method would be a series kept for ever.
const Other = "other"

var transports = []string{TransportStdio, TransportTCP, TransportHTTP, TransportWebSocket, TransportSSE, Other}
