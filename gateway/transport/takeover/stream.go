package takeover

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// Response is a response without an end, on a connection that was taken over: an http.ResponseWriter for
// http.ResponseController, in chunks (RFC 9112, section 7.1). What is written is sent at once. One goroutine at a time may
// use it, and must Close it.
type Response struct {
	conn   net.Conn
	header http.Header
	ctx    context.Context
	cancel context.CancelFunc
	gone   chan struct{} // closed once nobody reads what the client sends
	began  bool          // the header was sent
}

// Stream takes the connection of a request without a body over, to answer it with a stream. ok is false where the
// connection can't be taken, as of HTTP/2, and the request is served as any other. The header set so far is kept.
func Stream(w http.ResponseWriter, r *http.Request) (response *Response, ok bool) {
	if !r.ProtoAtLeast(1, 1) || r.ProtoMajor != 1 || r.ContentLength != 0 {
		return nil, false
	}
	header := w.Header().Clone()
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, false
	}
	o := &Response{conn: conn, header: header, gone: make(chan struct{})}
	if o.header == nil {
		o.header = http.Header{}
	}
	o.ctx, o.cancel = context.WithCancel(context.WithoutCancel(r.Context()))
	_ = conn.SetWriteDeadline(time.Now().Add(firstTime)) // the server's went with the server
	go o.watch()
	return o, true
}

// firstTime is how long a client may take to take the header, until another deadline is set: answers that it did not read
// may stand before it.
const firstTime = 30 * time.Second

// Context ends when the client is gone, and with Close.
func (o *Response) Context() context.Context { return o.ctx }

// maxSaid is how much a client may say on its stream, in bytes. More is not worth the reading of it.
const maxSaid = 64 << 10

// watch reads until the client is gone. What it says is no request that could be answered: the connection ends with the
// stream. A client that does not stop counts as gone.
func (o *Response) watch() {
	defer close(o.gone)
	defer o.cancel()
	said := make([]byte, 32)
	for all := 0; all <= maxSaid; {
		n, err := o.conn.Read(said)
		if err != nil {
			return
		}
		all += n
	}
}

// Header implements http.ResponseWriter.
func (o *Response) Header() http.Header { return o.header }

// WriteHeader implements http.ResponseWriter.
func (o *Response) WriteHeader(status int) {
	if o.began {
		return
	}
	o.began = true
	o.header.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	o.header.Set("Connection", "close")
	o.header.Set("Transfer-Encoding", "chunked")
	o.header.Del("Content-Length")
	_ = o.send(func(to *message) {
		_, _ = fmt.Fprintf(to, "HTTP/1.1 %d %s\r\n", status, http.StatusText(status))
		_ = o.header.Write(to)
		to.bytes = append(to.bytes, "\r\n"...)
	}) // the next write fails too
	o.header = http.Header{} // it is not needed any more
}

// Write implements http.ResponseWriter.
func (o *Response) Write(b []byte) (int, error) {
	o.WriteHeader(http.StatusOK)
	if len(b) == 0 { // an empty chunk is the last one
		return 0, nil
	}
	err := o.send(func(to *message) {
		to.bytes = strconv.AppendInt(to.bytes, int64(len(b)), 16)
		to.bytes = append(to.bytes, "\r\n"...)
		to.bytes = append(to.bytes, b...)
		to.bytes = append(to.bytes, "\r\n"...)
	})
	if err != nil {
		return 0, err
	}
	return len(b), nil
}

// FlushError is for http.ResponseController: there is nothing to flush.
func (o *Response) FlushError() error { return o.ctx.Err() }

// SetWriteDeadline is for http.ResponseController.
func (o *Response) SetWriteDeadline(at time.Time) error { return o.conn.SetWriteDeadline(at) }

// endTime is how long a client may take to take the end of the stream.
const endTime = time.Second

// Close ends the stream and the connection.
func (o *Response) Close() {
	if o.ctx.Err() == nil {
		o.WriteHeader(http.StatusOK)
		_ = o.conn.SetWriteDeadline(time.Now().Add(endTime))
		_, _ = io.WriteString(o.conn, "0\r\n\r\n")
	}
	_ = o.conn.Close()
	<-o.gone
}

// message is what is sent at once. Its memory is shared by all streams: most are quiet.
type message struct{ bytes []byte }

// Write implements io.Writer.
func (m *message) Write(b []byte) (int, error) {
	m.bytes = append(m.bytes, b...)
	return len(b), nil
}

var messages = sync.Pool{New: func() any { return new(message) }}

// keptMessage is the longest message, in bytes, whose memory is kept.
const keptMessage = 64 << 10

func (o *Response) send(compose func(to *message)) error {
	m := messages.Get().(*message)
	m.bytes = m.bytes[:0]
	compose(m)
	_, err := o.conn.Write(m.bytes)
	if cap(m.bytes) <= keptMessage {
		messages.Put(m)
	}
	return err
}
