package seal_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"erlmcp.dev/shared/seal"
)

func keys(t testing.TB, secrets ...[]byte) *seal.Keys {
	t.Helper()
	k, err := seal.New(secrets...)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestATokenOpensOnlyForItsPurposeAndBinding(t *testing.T) {
	k := keys(t, seal.Generate())
	token := k.Seal("a", []byte("plain"), []byte("bound"))
	if got, err := k.Open("a", token, []byte("bound")); err != nil || string(got) != "plain" {
		t.Errorf("got %q, %v", got, err)
	}
	if token == k.Seal("a", []byte("plain"), []byte("bound")) {
		t.Error("two tokens are alike")
	}
	other := keys(t, seal.Generate())
	for name, err := range map[string]error{
		"other purpose": second(k.Open("b", token, []byte("bound"))),
		"other binding": second(k.Open("a", token, []byte("other"))),
		"no binding":    second(k.Open("a", token, nil)),
		"other cluster": second(other.Open("a", token, []byte("bound"))),
		"cut off":       second(k.Open("a", token[:len(token)-2], []byte("bound"))),
		"empty":         second(k.Open("a", "", []byte("bound"))),
		"too long":      second(k.Open("a", strings.Repeat("A", seal.MaxToken+1), nil)),
	} {
		if !errors.Is(err, seal.ErrForged) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for i := range len(token) {
		changed := []byte(token)
		if changed[i] = 'A'; token[i] == 'A' {
			changed[i] = 'B'
		}
		if _, err := k.Open("a", string(changed), []byte("bound")); err == nil {
			t.Fatalf("byte %d can be changed", i)
		}
	}
}

func second(_ []byte, err error) error { return err }

func TestASecretIsChangedWithoutAPause(t *testing.T) {
	old, next := seal.Generate(), seal.Generate()
	before, during, after := keys(t, old), keys(t, next, old), keys(t, next)
	token := before.Seal("a", []byte("x"), nil)
	if _, err := during.Open("a", token, nil); err != nil {
		t.Error(err)
	}
	if _, err := after.Open("a", token, nil); err == nil {
		t.Error("the old secret still counts")
	}
	now := time.Now()
	if _, err := during.Check(before.Credential("n@h", now), now); err != nil {
		t.Error(err)
	}
}

func TestUnfitSecretsAreRefused(t *testing.T) {
	for _, s := range []string{
		"", "short", strings.Repeat("a", 64), strings.Repeat("erlmcp", 8), strings.Repeat("erlmcp-cookie-1", 3), strings.Repeat("x9Kd-2mQ7", 7),
		"change-me-to-secure-random-value-please-1234567890", "CHANGE_ME_9f8a7d6c5b4e3f2a1b0c9d8e7f6a5b4c",
		"your-secure-secret-0123456789abcdefghij",
	} {
		if _, err := seal.New(seal.Generate(), []byte(s)); err == nil || s != "" && strings.Contains(err.Error(), s) {
			t.Errorf("%q: %v", s, err)
		}
	}
	for range 100 { // and random ones never are
		random := make([]byte, 32)
		_, _ = rand.Read(random)
		for _, s := range [][]byte{random, seal.Generate(), fmt.Appendf(nil, "%x", random[:16]), fmt.Appendf(nil, "%x", random)} {
			if err := seal.Weak(s); err != nil {
				t.Fatalf("%q: %v", s, err)
			}
		}
	}
	if _, err := seal.New(); err == nil {
		t.Error("no secret was taken for one")
	}
	if bytes.Equal(seal.Generate(), seal.Generate()) {
		t.Error("two secrets are alike")
	}
}

func TestACredentialProvesItsNodeForAMinute(t *testing.T) {
	k := keys(t, seal.Generate())
	now := time.Now()
	c := k.Credential("gateway@host.1", now)
	if node, err := k.Check(c, now); err != nil || node != "gateway@host.1" {
		t.Errorf("got %q, %v", node, err)
	}
	for name, err := range map[string]error{
		"late":          check(k, c, now.Add(5*time.Minute)),
		"early":         check(k, c, now.Add(-5*time.Minute)),
		"other cluster": check(keys(t, seal.Generate()), c, now),
		"changed":       check(k, "9"+c, now),
		"garbage":       check(k, "..", now),
	} {
		if !errors.Is(err, seal.ErrCredential) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestATokenHasOneSpelling(t *testing.T) {
	k := keys(t, seal.Generate())
	now := time.Now()
	token, credential := k.Seal("a", []byte("xy"), nil), k.Credential("n@h", now)
	for _, other := range []string{token + "\n", "\r" + token, token[:5] + "\n" + token[5:], token + "=", token + "A", strings.ReplaceAll(token, "", " ")} {
		if _, err := k.Open("a", other, nil); !errors.Is(err, seal.ErrForged) {
			t.Errorf("%q opened", other)
		}
	}
	for _, other := range []string{credential + "\n", " " + credential, strings.Replace(credential, ".", "\n.", 1), credential + "=", "+" + credential} {
		if _, err := k.Check(other, now); !errors.Is(err, seal.ErrCredential) {
			t.Errorf("%q passed", other)
		}
	}
}

func TestTheLongestPlaintextOpensAgain(t *testing.T) {
	k := keys(t, seal.Generate())
	if _, err := k.Open("a", k.Seal("a", make([]byte, seal.MaxPlaintext), nil), nil); err != nil {
		t.Error(err)
	}
	if _, err := k.Open("a", k.Seal("a", make([]byte, seal.MaxPlaintext+1), nil), nil); !errors.Is(err, seal.ErrForged) {
		t.Errorf("a longer one: %v", err)
	}
}

func TestDerivedKeysDifferByPurposeAndAgreeAcrossNodes(t *testing.T) {
	secret := seal.Generate()
	a, b := keys(t, secret), keys(t, secret, seal.Generate())
	if !bytes.Equal(a.Derive("p", 64), b.Derive("p", 64)) || bytes.Equal(a.Derive("p", 64), a.Derive("q", 64)) || len(a.Derive("p", 100)) != 100 {
		t.Error("derived keys are not what nodes can agree on")
	}
}

func TestTheSecretMayBeWipedOnceKeysAreMade(t *testing.T) {
	secret := seal.Generate()
	same := bytes.Clone(secret)
	k := keys(t, secret)
	clear(secret)
	if _, err := keys(t, same).Open("late purpose", k.Seal("late purpose", nil, nil), nil); err != nil {
		t.Error(err)
	}
}

func check(k *seal.Keys, c string, now time.Time) error {
	_, err := k.Check(c, now)
	return err
}

// FuzzOpen: nothing but a token opens.
func FuzzOpen(f *testing.F) {
	k := keys(f, seal.Generate())
	f.Add("AAAA")
	f.Add(k.Seal("other", []byte("x"), nil))
	f.Fuzz(func(t *testing.T, token string) {
		if _, err := k.Open("a", token, nil); err == nil {
			t.Errorf("%q opened", token)
		}
	})
}

// FuzzCheck: nothing but a credential passes.
func FuzzCheck(f *testing.F) {
	k := keys(f, seal.Generate())
	f.Add("1.bm9kZQ.AAAA")
	f.Fuzz(func(t *testing.T, credential string) {
		if node, err := k.Check(credential, time.Now()); err == nil {
			t.Errorf("%q passed as %q", credential, node)
		}
	})
}

func BenchmarkSeal(b *testing.B) {
	k := keys(b, seal.Generate())
	b.ReportAllocs()
	for b.Loop() {
		_ = k.Seal("a", make([]byte, 16), nil)
	}
}

func BenchmarkOpenGarbage(b *testing.B) {
	k := keys(b, seal.Generate())
	token := strings.Repeat("A", seal.MaxToken)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := k.Open("a", token, nil); err == nil {
			b.Fatal("garbage opened")
		}
	}
}

func BenchmarkCheck(b *testing.B) {
	k := keys(b, seal.Generate())
	now := time.Now()
	credential := k.Credential("node@host", now)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := k.Check(credential, now); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpen(b *testing.B) {
	k := keys(b, seal.Generate())
	token := k.Seal("a", make([]byte, 16), nil)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := k.Open("a", token, nil); err != nil {
			b.Fatal(err)
		}
	}
}
