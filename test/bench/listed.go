package bench

import (
	"context"
	"fmt"
	"net/url"
)

// Listed tells whether a modern client gets the whole list at an endpoint.
func Listed(ctx context.Context, endpoint string) error {
	target, err := url.Parse(endpoint)
	if err != nil {
		return err
	}
	conn, err := dial(ctx, target.Host)
	if err != nil {
		return err
	}
	defer conn.close()
	if err := conn.within(patience); err != nil {
		return err
	}
	const number = firstNumber
	kind := Case{Modern, "tools/list"}
	answer, err := conn.do(newRequest(kind, target, "").fill(number))
	if err != nil {
		return fmt.Errorf("tools/list: %w", err)
	}
	return (&checker{method: kind.Method}).check(answer, number)
}
