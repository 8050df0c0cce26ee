package stdio

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
)

func TestAProgramRestsLongerWithEachDeathAndIsThenTriedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b breaker
		of, program := runs{"alice", "s"}, &registryv1.StdioEndpoint{Command: []string{"x"}}
		for i := range maxDeaths {
			if trial, err := b.admit(of, program); trial || err != nil {
				t.Fatalf("start %d: %v, %v", i+1, trial, err)
			}
			b.died(of, program, time.Now(), "words")
		}
		for rest := minRest; rest < 100*maxRest; rest *= 2 {
			_, err := b.admit(of, program)
			if refused, ok := errors.AsType[*RestError](err); !ok || refused.Next != min(rest, maxRest) || refused.Words != "words" {
				t.Fatalf("it should rest %s: %v", rest, err)
			}
			if _, err := b.admit(runs{"bob", "s"}, program); err != nil {
				t.Fatalf("another principal's program rests too: %v", err)
			}
			time.Sleep(min(rest, maxRest))
			if trial, err := b.admit(of, program); !trial || err != nil {
				t.Fatalf("after its rest: %v, %v", trial, err)
			}
			if _, err := b.admit(of, program); err == nil {
				t.Fatal("a second one was started during the trial")
			}
			b.died(of, program, time.Now(), "words")
		}
		if got := b.resting()["s"]; got <= maxDeaths {
			t.Errorf("it rests after %d deaths", got)
		}
		if _, err := b.admit(of, &registryv1.StdioEndpoint{Command: []string{"y"}}); err != nil {
			t.Errorf("declared anew: %v", err)
		}
	})
}

func TestATrialThatGoesWellLetsOthersInUntilTheNextDeath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b breaker
		of, program := runs{"alice", "s"}, &registryv1.StdioEndpoint{Command: []string{"x"}}
		began := time.Now()
		time.Sleep(time.Millisecond)
		for range maxDeaths {
			b.died(of, program, time.Now(), "")
		}
		b.died(of, program, began, "") // it ran beside those that count
		time.Sleep(minRest)
		if trial, err := b.admit(of, program); !trial || err != nil {
			t.Fatal(trial, err)
		}
		b.tried(of)
		if trial, err := b.admit(of, program); trial || err != nil {
			t.Fatalf("after a good trial: %v, %v", trial, err)
		}
		b.died(of, program, time.Now(), "")
		refused, ok := errors.AsType[*RestError](func() error { _, err := b.admit(of, program); return err }())
		if !ok || refused.Next != 2*minRest {
			t.Fatalf("the next death: %v", refused)
		}
		time.Sleep(2 * minRest)
		b.lived(of)
		if trial, err := b.admit(of, program); trial || err != nil || b.resting() != nil {
			t.Errorf("after it lived: %v, %v, %v", trial, err, b.resting())
		}
	})
}

func TestWhatIsRememberedOfFailingProgramsIsBounded(t *testing.T) {
	var b breaker
	program := &registryv1.StdioEndpoint{Command: []string{"x"}}
	for i := range maxFailing + 100 {
		b.died(runs{strings.Repeat("a", i), "s"}, program, time.Now(), "")
	}
	if len(b.failing) != maxFailing {
		t.Errorf("%d are remembered", len(b.failing))
	}
}

func TestLastWordsAreFitToBeShown(t *testing.T) {
	words := newTail(map[string]string{"TOKEN": "s3cret", "LONG": "s3cret-and-more", "ON": "1"})
	for range 2000 {
		_, _ = words.Write([]byte("1 the token is s3cret-and-more, s3cret\n"))
	}
	_, _ = words.Write([]byte("\x1b[31mred\x00\x07 \xff\u202Eback\t1\r\n" + strings.Repeat("ä", maxLine)))
	got := words.String()
	lines := strings.Split(got, "\n")
	if len(lines) != maxLines || strings.Contains(got, "s3cret") || lines[0] != "1 the token is [hidden], [hidden]" {
		t.Errorf("%d lines: %q", len(lines), got)
	}
	if red := lines[maxLines-2]; red != "[31mred back 1" {
		t.Errorf("control characters: %q", red)
	}
	if last := lines[maxLines-1]; len(last) > maxLine+3 || !strings.HasSuffix(last, "ä...") {
		t.Errorf("a long line: %q", last)
	}
}
