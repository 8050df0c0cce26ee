package stdio_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"erlmcp.dev/gateway/transport/stdio"
)

// An answer to what a server asks is posted again until the endpoint has it.
func TestAnAnswerIsBroughtUntilItIsTaken(t *testing.T) {
	const answer = `{"jsonrpc":"2.0","id":"q","result":{}}`
	posts := make(chan string, 10)
	var n atomic.Int32
	endpoint := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		posts <- string(body)
		switch n.Add(1) {
		case 1:
			panic(http.ErrAbortHandler)
		case 2:
			http.Error(w, `{"jsonrpc":"2.0","id":null,"error":{"code":-32603,"message":"the session service can't be reached"}}`, http.StatusServiceUnavailable)
		default:
			w.WriteHeader(http.StatusAccepted)
		}
	}))
	defer endpoint.Close()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	in, write := io.Pipe()
	var out bytes.Buffer
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- (&stdio.Bridge{URL: endpoint.URL, Client: client}).Run(ctx, in, &out) }()
	_, _ = fmt.Fprintln(write, answer)
	for range 3 {
		select {
		case post := <-posts:
			if post != answer {
				t.Errorf("posted %s", post)
			}
		case <-ctx.Done():
			t.Fatalf("the answer was posted %d times", n.Load())
		}
	}
	_ = write.Close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if n.Load() != 3 {
		t.Errorf("the answer was posted %d times, want 3", n.Load())
	}
	if out.Len() > 0 {
		t.Errorf("the client was told %s", &out)
	}
}
