package guard

import (
	"io"
	"net/http"
	"time"
)

// Patient serves requests whose bodies come. A client that says nothing for longer than patience within one is given up, and
// so is one whose body nobody wants to read, as of a request that was refused: without that it could hold its connection,
// one of those that there may be, for ever, whoever it is.
func Patient(handler http.Handler, patience time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength != 0 {
			b := &body{r.Body, http.NewResponseController(w), patience}
			b.until(time.Now().Add(patience))
			r.Body = b
		}
		handler.ServeHTTP(w, r)
	})
}

// body is one that comes.
type body struct {
	io.ReadCloser
	control  *http.ResponseController
	patience time.Duration
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	switch err {
	case nil:
		b.until(time.Now().Add(b.patience))
	case io.EOF: // behind it the server waits for the client's end, for as long as the answer takes
		b.until(time.Time{})
	}
	return n, err
}

// until sets the time beyond which nothing is read; never when zero.
func (b *body) until(t time.Time) { _ = b.control.SetReadDeadline(t) } // where that can't be, there is none
