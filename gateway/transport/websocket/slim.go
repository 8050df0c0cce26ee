package websocket

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
)

// slim is a ResponseWriter whose connection is taken over with small buffers: the HTTP server's are made for requests,
// and a quiet WebSocket would keep them for as long as it is open. Messages that are longer pass them by.
type slim struct{ http.ResponseWriter }

// slimBuffer is how long a buffer is, in bytes.
const slimBuffer = 512

// Hijack implements http.Hijacker.
func (s slim) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, had, err := http.NewResponseController(s.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	if err := had.Flush(); err != nil { // the answer to the upgrade
		_ = conn.Close()
		return nil, nil, err
	}
	waits, _ := had.Peek(had.Reader.Buffered()) // of what is there already
	reader := bufio.NewReaderSize(io.MultiReader(bytes.NewReader(waits), conn), max(slimBuffer, len(waits)))
	if _, err := reader.Peek(len(waits)); err != nil {
		_ = conn.Close()
		return nil, nil, err
	}
	return conn, bufio.NewReadWriter(reader, bufio.NewWriterSize(conn, slimBuffer)), nil
}
