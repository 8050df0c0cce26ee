package bench

import (
	"bytes"
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

// Era is the kind of client that makes the calls.
type Era string

// Eras.
const (
	Modern Era = "modern"
	Legacy Era = "legacy"
)

// Case is one kind of call.
type Case struct {
	Era    Era
	Method string // tools/call or tools/list
}

// String is the case's name in tables.
func (c Case) String() string { return c.Method + ", " + string(c.Era) }

// Cases are all kinds of call.
func Cases() []Case {
	return []Case{{Modern, "tools/call"}, {Legacy, "tools/call"}, {Modern, "tools/list"}, {Legacy, "tools/list"}}
}

// hole stands for a call's number in a request. A number has as many digits, so a request is written once and
// then only filled in.
const hole = "##########"

// firstNumber is the smallest number as wide as the hole.
const firstNumber = 1_000_000_000

// request is a whole HTTP/1.1 request with holes.
type request struct {
	bytes []byte
	holes []int
}

// newRequest writes the request for a case; session is the legacy session's id.
func newRequest(c Case, target *url.URL, session string) *request {
	params := map[Case]string{
		{Modern, "tools/call"}: `"name":"echo","arguments":{"message":"hello ` + hole + `"},`,
		{Legacy, "tools/call"}: `"name":"echo","arguments":{"message":"hello ` + hole + `"}`,
	}[c]
	header := "MCP-Protocol-Version: 2025-11-25\r\nMcp-Session-Id: " + session + "\r\n"
	if c.Era == Modern {
		params += `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28",` +
			`"io.modelcontextprotocol/clientInfo":{"name":"bench","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}}`
		header = "MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: " + c.Method + "\r\n"
		if c.Method == "tools/call" {
			header += "Mcp-Name: echo\r\n"
		}
	}
	return post(target, header, `{"jsonrpc":"2.0","id":`+hole+`,"method":"`+c.Method+`","params":{`+params+`}}`)
}

// post writes a POST with a JSON body.
func post(target *url.URL, header, body string) *request {
	var b bytes.Buffer
	fmt.Fprintf(&b, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\n"+
		"Accept: application/json, text/event-stream\r\n%sContent-Length: %d\r\n\r\n%s", target.RequestURI(), target.Host, header, len(body), body)
	r := &request{bytes: b.Bytes()}
	for at := 0; ; at += len(hole) {
		next := strings.Index(string(r.bytes[at:]), hole)
		if next < 0 {
			return r
		}
		at += next
		r.holes = append(r.holes, at)
	}
}

// fill puts a number into the holes and gives the bytes to send, which the next fill changes.
func (r *request) fill(number uint64) []byte {
	for _, at := range r.holes {
		strconv.AppendUint(r.bytes[at:at], number, 10)
	}
	return r.bytes
}
