package testkit

import (
	"testing"
	"time"
)

// Eventually waits until check says true or returns nil, and fails the test with check's last error when it
// has not within the given time. It is for what tells no one when it happens, such as a key that expires in
// Redis; where a channel, a WaitGroup or testing/synctest can tell, use those. check runs on the test's
// goroutine and may not call t.Fatal for a state that is only not there yet.
func Eventually[Check interface{ func() bool | func() error }](t testing.TB, check Check, within time.Duration) {
	t.Helper()
	start := time.Now()
	for wait := time.Millisecond; ; wait = min(2*wait, 10*time.Millisecond) {
		var done bool
		var last error
		switch check := any(check).(type) {
		case func() bool:
			done = check()
		case func() error:
			last = check()
			done = last == nil
		}
		if done {
			return
		}
		if time.Since(start) > within {
			if last != nil {
				t.Fatalf("not within %v: %v", within, last)
			}
			t.Fatalf("it did not happen within %v", within)
		}
		time.Sleep(wait)
	}
}
