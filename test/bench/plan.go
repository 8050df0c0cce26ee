package bench

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"sync"
	"time"
)

// Target is a way to the upstream server.
type Target struct {
	Name string
	// URLs of the endpoint, by the era of the clients.
	URLs map[Era]string
	// Watched are the processes whose work counts: the hop, or where there is none the server itself.
	Watched []Watched
}

// Plan is what is measured, and for how long.
type Plan struct {
	Targets []Target
	Cases   []Case
	// Clients are the numbers of concurrent clients, each measured by itself.
	Clients []int
	// Rounds is how often each target has its turn, Round how long a turn is. A first turn of each is not counted.
	Rounds int
	Round  time.Duration
}

// Measurement is what came of one case, number of clients and target.
type Measurement struct {
	Case    Case
	Clients int
	Target  string
	// Took is the time of each call that was answered rightly, sorted.
	Took []time.Duration
	// Elapsed is the time of all turns, CPU and Mallocs the work of the watched processes in it.
	Elapsed time.Duration
	CPU     time.Duration
	Mallocs float64
	Errors  tally
}

// Run measures everything in turn; say is told what is being measured.
func (p Plan) Run(ctx context.Context, say func(string)) ([]Measurement, error) {
	var all []Measurement
	for _, kind := range p.Cases {
		for _, clients := range p.Clients {
			say(fmt.Sprintf("%s, %d clients", kind, clients))
			measured, err := p.measure(ctx, kind, clients)
			if err != nil {
				return all, fmt.Errorf("%s, %d clients: %w", kind, clients, err)
			}
			all = append(all, measured...)
		}
	}
	return all, nil
}

// measure gives the targets their turns, and begins each round with another one.
func (p Plan) measure(ctx context.Context, kind Case, clients int) ([]Measurement, error) {
	crews := make([]*crew, 0, len(p.Targets))
	defer func() {
		for _, c := range crews {
			c.close()
		}
	}()
	for i, target := range p.Targets {
		c, err := assemble(ctx, target, kind, clients, uint64(i))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", target.Name, err)
		}
		crews = append(crews, c)
	}
	for round := range p.Rounds + 1 {
		for i := range crews {
			c := crews[(i+round)%len(crews)]
			if err := c.turn(ctx, p.Round, round > 0); err != nil {
				return nil, err
			}
		}
	}
	measured := make([]Measurement, len(crews))
	for i, c := range crews {
		measured[i] = c.measurement()
	}
	return measured, nil
}

// crew is all clients of one target.
type crew struct {
	sum     Measurement
	meter   meter
	clients []*client
}

func assemble(ctx context.Context, target Target, kind Case, clients int, index uint64) (*crew, error) {
	endpoint, err := url.Parse(target.URLs[kind.Era])
	if err != nil {
		return nil, err
	}
	c := &crew{sum: Measurement{Case: kind, Clients: clients, Target: target.Name}}
	if c.meter, err = newMeter(ctx, target.Watched); err != nil {
		return nil, err
	}
	checks := &checker{method: kind.Method}
	for i := range uint64(clients) {
		one := &client{kind: kind, target: endpoint, checker: checks, number: firstNumber + index*2_000_000_000 + i*10_000_000}
		c.clients = append(c.clients, one)
		if err := one.open(ctx); err != nil {
			c.close()
			return nil, err
		}
	}
	return c, nil
}

// turn lets all clients call for a time, and adds it up if it counts.
func (c *crew) turn(ctx context.Context, length time.Duration, counts bool) error {
	from, err := c.meter.start(ctx)
	if err != nil {
		return err
	}
	began := time.Now()
	var running sync.WaitGroup
	for _, one := range c.clients {
		running.Go(func() { one.run(ctx, began.Add(length)) })
	}
	running.Wait()
	elapsed := time.Since(began)
	did, err := c.meter.stop(ctx, from)
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	for _, one := range c.clients {
		if counts {
			c.sum.Took = append(c.sum.Took, one.took...)
		}
		one.took = one.took[:0]
		c.sum.Errors.merge(one.errors) // those of the first turn too: an error is never left out
		one.errors = nil
	}
	if counts {
		c.sum.Elapsed += elapsed
		c.sum.CPU += did.cpu
		c.sum.Mallocs += did.mallocs
	}
	return nil
}

func (c *crew) measurement() Measurement {
	slices.Sort(c.sum.Took)
	return c.sum
}

func (c *crew) close() {
	for _, one := range c.clients {
		one.close()
	}
}
