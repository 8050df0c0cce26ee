package transports

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"erlmcp.dev/shared/testkit"
)

// vandal is a way to misbehave: it is given a connection to the port that has every transport, and need not close it.
type vandal struct {
	name string
	do   func(c *net.TCPConn)
}

const (
	initialize  = `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"vandal","version":"1"}}}`
	modernMeta  = `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}`
	slowCall    = `{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"test_tool_with_progress","_meta":{"progressToken":"p"}}}`
	modernCall  = `{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"test_tool_with_progress",` + modernMeta + `}}`
	modernWatch = `{"jsonrpc":"2.0","id":3,"method":"subscriptions/listen","params":{"notifications":{"toolsListChanged":true},` + modernMeta + `}}`
)

var vandals = []vandal{
	{"says nothing", func(*net.TCPConn) {}},
	{"sends one byte", say("{")},
	{"sends half a message and resets", func(c *net.TCPConn) {
		say(initialize[:40])(c)
		_ = c.SetLinger(0)
	}},
	{"sends a line that is too long", say(`{"a":"` + strings.Repeat("x", 200<<10))},
	{"sends noise", func(c *net.TCPConn) {
		noise := make([]byte, 4<<10)
		_, _ = rand.Read(noise)
		say("{" + string(noise) + "\n")(c)
		hear(c)
	}},
	{"sends lines that are no messages", say(strings.Repeat("{\"jsonrpc\":7}\n[]\nnull\n", 100))},
	{"asks and never reads", say(initialize + "\n" + strings.Repeat(`{"jsonrpc":"2.0","id":9,"method":"tools/list"}`+"\n", 60))},
	{"leaves in the middle of a call", func(c *net.TCPConn) {
		say(initialize + "\n")(c)
		hear(c)
		say(slowCall + "\n")(c)
	}},
	{"uses one id twice", say(modernCall + "\n" + modernCall + "\n")},
	{"listens and leaves", func(c *net.TCPConn) {
		say(modernWatch + "\n")(c)
		hear(c)
	}},
	{"nests deep", say(`{"jsonrpc":"2.0","id":1,"method":"x","params":` + strings.Repeat(`{"a":`, 5000) + "\n")},
	{"sends half a header", say("POST /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\nX-A: ")},
	{"announces more than it sends", say("POST /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 60000\r\n\r\n{}")},
	{"sends chunks that are none", func(c *net.TCPConn) {
		say("POST /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")(c)
		hear(c)
	}},
	{"opens a session and forgets it", func(c *net.TCPConn) {
		post("/mcp", "", initialize)(c)
		hear(c)
	}},
	{"invents a session", func(c *net.TCPConn) {
		post("/mcp", "Mcp-Session-Id: "+base64.RawURLEncoding.EncodeToString(make([]byte, 60))+"\r\n", slowCall)(c)
		hear(c)
	}},
	{"leaves a modern call", func(c *net.TCPConn) {
		post("/mcp", "MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: tools/call\r\nMcp-Name: test_tool_with_progress\r\n", modernCall)(c)
	}},
	{"opens an event stream and leaves", func(c *net.TCPConn) {
		say("GET /sse HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n")(c)
		hear(c)
	}},
	{"posts to a stream that is not there", func(c *net.TCPConn) {
		post("/messages?session=forged", "", initialize)(c)
		hear(c)
	}},
	{"upgrades and leaves", upgrade("", false)},
	{"sends a binary frame", upgrade("\x82\x81\x00\x00\x00\x00x", true)},
	{"sends an unmasked frame", upgrade("\x81\x02{}", true)},
	{"announces a frame of exabytes", upgrade("\x81\xff\x7f\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00{", true)},
	{"never ends its fragments", upgrade("\x01\x81\x00\x00\x00\x00{", false)},
}

func say(text string) func(*net.TCPConn) {
	return func(c *net.TCPConn) { _, _ = io.WriteString(c, text) }
}

// hear waits for some answer.
func hear(c *net.TCPConn) { _, _ = c.Read(make([]byte, 4<<10)) }

func post(path, headers, body string) func(*net.TCPConn) {
	return say("POST " + path + " HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nAccept: application/json, text/event-stream\r\n" +
		headers + "Content-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + body)
}

// upgrade becomes a WebSocket and sends raw frames, which may be answered by the connection's end.
func upgrade(frames string, answered bool) func(*net.TCPConn) {
	return func(c *net.TCPConn) {
		say("GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")(c)
		if r, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || r.StatusCode != http.StatusSwitchingProtocols {
			return
		}
		say(frames)(c)
		if answered {
			hear(c)
		}
	}
}

// Clients that misbehave in every way we know and leave: afterwards memory and goroutines are where they were, and
// all the while another client is served. ERLMCP_VANDALS says how many there are.
func TestVandalsLeaveNothingBehind(t *testing.T) {
	many := 1000
	if n, err := strconv.Atoi(os.Getenv("ERLMCP_VANDALS")); err == nil {
		many = n
	}
	s := newSite(t, options{maxBody: 64 << 10, idle: time.Second})
	bystander := newClient(t, dialTCP(t, s.at(), ""), "2026-07-28").connect()
	var served atomic.Int64
	storm := func(n int) {
		ctx, cancel := context.WithCancel(t.Context())
		var watching sync.WaitGroup
		watching.Go(func() {
			pace := time.NewTicker(5 * time.Millisecond)
			defer pace.Stop()
			for ctx.Err() == nil {
				bystander.tool("test_simple_text", `{}`)
				served.Add(1)
				<-pace.C
			}
		})
		next := make(chan int)
		var running sync.WaitGroup
		for range 64 {
			running.Go(func() {
				for i := range next {
					visit(t, s.gateways[0].api, i)
				}
			})
		}
		for i := range n {
			next <- i
		}
		close(next)
		running.Wait()
		cancel()
		watching.Wait()
	}
	storm(4 * len(vandals)) // what is made once and kept
	memory, goroutines := settled(t, s, func(uint64, int) error { return nil })
	start := time.Now()
	storm(many)
	took := time.Since(start)
	var afterMemory uint64
	var afterGoroutines int
	afterMemory, afterGoroutines = settled(t, s, func(m uint64, g int) error {
		if g > goroutines+10 || m > memory+8<<20 {
			return fmt.Errorf("%d goroutines and %d KiB, before %d and %d", g, m>>10, goroutines, memory>>10)
		}
		return nil
	})
	t.Logf("%d vandals of %d kinds in %v: memory %d KiB before, %d after; goroutines %d, %d; another client was served %d times",
		many, len(vandals), took.Round(time.Millisecond), memory>>10, afterMemory>>10, goroutines, afterGoroutines, served.Load())
}

// visit is one client's stay. Source addresses differ, as one has too few ports for all.
func visit(t *testing.T, api string, i int) {
	to, err := net.ResolveTCPAddr("tcp", api)
	if err != nil {
		t.Error(err)
		return
	}
	c, err := net.DialTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(2+i%200))}, to)
	if err != nil {
		t.Error(err)
		return
	}
	_ = c.SetDeadline(time.Now().Add(patience))
	vandals[i%len(vandals)].do(c)
	_ = c.Close()
}

// settled waits until memory in use and the number of goroutines stand still and are accepted.
func settled(t *testing.T, s *site, accept func(memory uint64, goroutines int) error) (memory uint64, goroutines int) {
	t.Helper()
	before := -1
	testkit.Eventually(t, func() error {
		s.idle() // connections to the server are kept for a while, and no vandal's
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		memory, goroutines = m.HeapAlloc, runtime.NumGoroutine()
		if was := before; was != goroutines {
			before = goroutines
			return fmt.Errorf("goroutines: %d, then %d", was, goroutines)
		}
		return accept(memory, goroutines)
	}, time.Minute)
	return memory, goroutines
}
