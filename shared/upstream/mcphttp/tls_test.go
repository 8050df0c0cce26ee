package mcphttp_test

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"testing"
)

// tlsServer is the URL of a server whose certificate nobody signed.
func tlsServer(t *testing.T) string {
	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // it complains of the client
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.URL
}
