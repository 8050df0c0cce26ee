package takeover

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
)

// bufferSize is how long the buffers of a connection that was taken over are, in bytes. What is longer passes them by.
const bufferSize = 512

// Conn takes a request's connection over, with small buffers. What was written is sent before; what the client has sent
// already is read first. Where there is an error and no connection, nothing was taken over.
func Conn(w http.ResponseWriter) (net.Conn, *bufio.ReadWriter, error) {
	conn, had, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, nil, err
	}
	if err := had.Flush(); err != nil {
		_ = conn.Close()
		return nil, nil, err
	}
	waits, _ := had.Peek(had.Reader.Buffered()) // of what is there already
	reader := bufio.NewReaderSize(io.MultiReader(bytes.NewReader(waits), conn), max(bufferSize, len(waits)))
	if _, err := reader.Peek(len(waits)); err != nil {
		_ = conn.Close()
		return nil, nil, err
	}
	return conn, bufio.NewReadWriter(reader, bufio.NewWriterSize(conn, bufferSize)), nil
}

// Hijacker is a ResponseWriter whose Hijack is [Conn].
type Hijacker struct{ http.ResponseWriter }

// Hijack implements http.Hijacker.
func (h Hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) { return Conn(h.ResponseWriter) }
