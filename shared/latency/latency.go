// Package latency counts durations in buckets that are the same everywhere, so that counts of many processes and
// hours add up, and quantiles of the sum are as exact as those of a part. It must not know whose durations they are.
package latency

import (
	"math/bits"
	"time"
)

// Buckets is how many there are. The first four are of 0 to 3 microseconds; from there on each power of two is cut in
// four. The last begins at two hours and has no end.
const Buckets = 128

// Bucket is where a duration counts: 0 to Buckets-1.
func Bucket(d time.Duration) int {
	us := uint64(max(d, 0) / time.Microsecond)
	if us < 4 {
		return int(us)
	}
	e := bits.Len64(us) - 1 // at least 2
	return min(4*(e-1)+int(us>>(e-2)&3), Buckets-1)
}

// Floor is the shortest duration that counts in a bucket, in microseconds.
func Floor(bucket int) uint64 {
	if bucket < 4 {
		return uint64(max(bucket, 0))
	}
	e := bucket/4 + 1
	return uint64(4+bucket%4) << (e - 2)
}

// Quantile is a duration in microseconds that the part q (0 to 1) of calls did not exceed: the middle of its bucket,
// which is within 12.5 % of it. counts are by bucket; 0 where there are none.
func Quantile(counts *[Buckets]uint64, q float64) uint64 {
	var all uint64
	for _, n := range counts {
		all += n
	}
	if all == 0 {
		return 0
	}
	rank := min(max(uint64(q*float64(all)+0.5), 1), all)
	var seen uint64
	for i, n := range counts {
		if seen += n; seen >= rank {
			return (Floor(i) + Floor(i+1)) / 2
		}
	}
	return 0
}
