package engine

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"time"

	"erlmcp.dev/shared/jsonrpc"
)

// maxServerState is how long a modern program's own requestState may be, in bytes: ours holds it.
const maxServerState = 32 << 10

const purposeState = "erlmcp request state v1"

// state is what a requestState of ours holds: the owner that the retry must reach, and there either the call that
// waits, or, of a modern server, that server's own state.
type state struct {
	Address string          `json:"a"`
	Waiting string          `json:"w,omitempty"`
	Server  json.RawMessage `json:"s,omitempty"`
	Expires int64           `json:"e"` // Unix seconds
}

// restore puts the server's own state back into a retry's params.
func (s state) restore(params json.RawMessage) json.RawMessage {
	if s.Server == nil {
		return jsonrpc.Without(params, "requestState")
	}
	return jsonrpc.With(params, s.Server, "requestState")
}

// stateBinding is what a requestState is good for: the same principal, server, method and params.
type stateBinding struct {
	principal, server, method string
	params                    json.RawMessage
}

// bytes are the associated data of the seal. Params count without what differs between rounds.
func (b stateBinding) bytes() []byte {
	o, _ := jsonrpc.ParseObject(b.params)
	for _, key := range []string{"_meta", "inputResponses", "requestState"} {
		o.Delete(key)
	}
	numbers := json.NewDecoder(bytes.NewReader(o.JSON()))
	numbers.UseNumber() // integers beyond 2^53 must not look equal
	var canonical any
	_ = numbers.Decode(&canonical) // checked JSON
	sorted, _ := json.Marshal(canonical)
	digest := sha256.Sum256(sorted)
	bound, _ := json.Marshal([]string{b.principal, b.server, b.method, hex.EncodeToString(digest[:])})
	return bound
}

func (e *Engine) sealState(s state, b stateBinding, now time.Time) string {
	s.Expires = now.Add(e.config.InputWait).Unix()
	plain, _ := json.Marshal(s)
	return e.config.Sealer.Seal(purposeState, plain, b.bytes())
}

var errStateExpired = errors.New("it has expired; call again without it")
var errStateForged = errors.New("it was not made for this principal and request; call again without it")

func (e *Engine) openState(token string, b stateBinding, now time.Time) (state, error) {
	var s state
	plain, err := e.config.Sealer.Open(purposeState, token, b.bytes())
	if err != nil || json.Unmarshal(plain, &s) != nil {
		return s, errStateForged
	}
	if now.Unix() > s.Expires {
		return s, errStateExpired
	}
	return s, nil
}
