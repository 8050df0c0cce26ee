package access

import (
	"context"
	"strings"
)

// Chain authenticates by what a token looks like: API keys by Keys, everything else by Tokens. The zero Chain
// lets nobody in.
type Chain struct {
	Keys *KeySet
	// Tokens checks JSON Web Tokens; nil where none are accepted.
	Tokens Authenticator
	// Otherwise stands for those who send no token at all; nil where that is refused.
	Otherwise Authenticator
}

// Authenticate implements Authenticator.
func (c Chain) Authenticate(ctx context.Context, bearer string) (Principal, error) {
	switch {
	case bearer == "" && c.Otherwise != nil:
		return c.Otherwise.Authenticate(ctx, bearer)
	case bearer == "":
		return Principal{}, ErrUnauthenticated
	case strings.HasPrefix(bearer, keyPrefix) && c.Keys != nil:
		return c.Keys.Authenticate(ctx, bearer)
	case c.Tokens != nil:
		return c.Tokens.Authenticate(ctx, bearer)
	}
	return Principal{}, ErrUnauthenticated
}
