package ends

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	"erlmcp.dev/services/session/owner"
	"erlmcp.dev/services/session/stdio"
	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/mcp"
	"erlmcp.dev/shared/upstream"
	"erlmcp.dev/shared/upstream/describe"
	"erlmcp.dev/shared/upstream/mcpio"
)

// program is a conversation with a program, which ends with it, or when nobody called for long.
type program struct {
	*mcpio.Conn
	process *stdio.Process
	words   bool
	idle    time.Duration

	mu     sync.Mutex
	calls  int
	subs   map[string]bool // resources whose updates it was asked for
	unused *time.Timer     // ends it; nil while it is in use
	over   bool
}

func (o *Opener) stdio(ctx context.Context, s *registryv1.CatalogServer, e *registryv1.StdioEndpoint, c owner.EndClient) (owner.End, error) {
	process, err := o.Programs.Start(stdio.Program{Server: s.GetServer().GetName(), Principal: c.Principal, Endpoint: e})
	if err != nil {
		return owner.End{}, o.notStarted(err)
	}
	p := &program{
		Conn: mcpio.New(process, mcpio.Config{Listener: c.Listener}), process: process, words: o.Words,
		idle: o.ProgramIdle, subs: map[string]bool{},
	}
	if p.idle == 0 {
		p.idle = 30 * time.Minute
	}
	if !legacy(s, c) {
		p.rest()
		return owner.End{Peer: p, Modern: true}, nil
	}
	result, err := p.Initialize(ctx, version(s, c), c.Capabilities, c.Info)
	if err != nil {
		err = p.explain(notOpened(err))
		_ = p.Close()
		return owner.End{}, fmt.Errorf("%w; its last words: %s", err, process.Stderr())
	}
	process.Well()
	p.rest()
	return owner.End{Peer: p, Logging: logs(result)}, nil
}

// notStarted says why a program does not run.
func (o *Opener) notStarted(err error) error {
	resting, often := errors.AsType[*stdio.RestError](err)
	reason := "its program can't be started"
	switch {
	case errors.Is(err, stdio.ErrFull):
		reason = "too many programs are running"
	case often:
		reason = resting.Error() + quoted(resting.Words, o.Words)
	case o.Words:
		reason = err.Error()
	}
	return &upstream.ToldError{Reason: reason, Err: notOpened(err)}
}

// quoted are a program's last lines as the end of a sentence, where they may be shown.
func quoted(words string, may bool) string {
	if !may || words == "" {
		return ""
	}
	return "; it wrote last: " + words
}

// Call implements upstream.Peer.
func (p *program) Call(ctx context.Context, req upstream.Request, from upstream.Listener) (upstream.Reply, error) {
	if !p.begin() {
		return upstream.Reply{}, upstream.ErrSessionGone
	}
	reply, err := p.Conn.Call(ctx, req, from)
	p.finish(req, err == nil && reply.Error == nil)
	if err != nil {
		return reply, p.explain(err)
	}
	p.process.Well()
	return reply, nil
}

// explain adds to an error how the program ended, if it did.
func (p *program) explain(err error) error {
	if !errors.Is(err, upstream.ErrLost) {
		return err
	}
	select {
	case <-p.process.Exited(): // its output ended: it is about to
	case <-time.After(time.Second):
		return err
	}
	reason := "its program ended (" + p.process.Ended() + ")"
	return &upstream.ToldError{Reason: reason + quoted(p.process.Stderr(), p.words), Err: err}
}

// begin says that a call begins; false where the program was ended because nobody used it.
func (p *program) begin() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over {
		return false
	}
	p.calls++
	if p.unused != nil {
		p.unused.Stop()
		p.unused = nil
	}
	return true
}

func (p *program) finish(req upstream.Request, done bool) {
	uri, _ := jsonrpc.GetString(req.Params, "uri")
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls--
	switch {
	case done && req.Method == mcp.MethodSubscribe:
		p.subs[uri] = true
	case done && req.Method == mcp.MethodUnsubscribe:
		delete(p.subs, uri)
	}
	p.restLocked()
}

func (p *program) rest() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.restLocked()
}

func (p *program) restLocked() {
	if p.calls > 0 || len(p.subs) > 0 || p.over || p.unused != nil {
		return
	}
	var timer *time.Timer
	timer = time.AfterFunc(p.idle, func() {
		p.mu.Lock()
		p.over = p.unused == timer // else a call came in between
		over := p.over
		p.mu.Unlock()
		if over {
			_ = p.Close()
		}
	})
	p.unused = timer
}

// Close implements upstream.Peer.
func (p *program) Close() error {
	p.mu.Lock()
	p.over = true
	if p.unused != nil {
		p.unused.Stop()
	}
	p.mu.Unlock()
	return errors.Join(p.Conn.Close(), p.process.Close())
}

// Describe implements owner.Opener. The errors have the program's last lines: they are for those who look after
// servers.
func (o *Opener) Describe(ctx context.Context, s *registryv1.Server) (*registryv1.Offer, error) {
	e := s.GetStdio()
	if e == nil {
		return nil, errors.New("only programs are described here")
	}
	var last *stdio.Process
	offer, err := describe.Stream(ctx, func(context.Context) (io.ReadWriteCloser, error) {
		process, err := o.Programs.Start(stdio.Program{Server: s.GetName(), Endpoint: e})
		if err == nil {
			last = process
		}
		return process, err
	}, o.Dialer.Client(s))
	words := ""
	if resting, often := errors.AsType[*stdio.RestError](err); often {
		words = resting.Words
	} else if last != nil {
		words = last.Stderr()
	}
	if err != nil && words != "" {
		err = fmt.Errorf("%w; its last words: %s", err, words)
	}
	return offer, err
}
