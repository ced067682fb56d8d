package main

import "sort"

// benchReport has the fields of `kcpq bench --json` that apply.
type benchReport struct {
	Published uint64 `json:"published"`
	Delivered uint64 `json:"delivered"`
	// InTime is how many of the delivered ones came within -duration.
	InTime      uint64             `json:"in_time"`
	Lost        uint64             `json:"lost"`
	Repeated    uint64             `json:"repeated"`
	Seconds     float64            `json:"seconds"`
	MsgsPerS    float64            `json:"msgs_per_s"`
	BytesPerS   float64            `json:"bytes_per_s"`
	LatencyUs   map[string]float64 `json:"latency_us"`
	ServerEnded string             `json:"server_ended,omitempty"`
}

// report prints what has come since begin of the deliveries that were expected.
func (b *bench) report(published, expected uint64, begin int64) {
	arrivals := b.takeArrivals()
	report := benchReport{Published: published, Delivered: uint64(len(arrivals))}
	if expected > report.Delivered {
		report.Lost = expected - report.Delivered
	}
	var last int64
	var latencies []int64
	for _, arrival := range arrivals {
		if arrival.at > last {
			last = arrival.at
		}
		if arrival.at-begin < b.duration.Nanoseconds() {
			report.InTime++
		}
		if arrival.due != 0 {
			latencies = append(latencies, arrival.at-arrival.due)
		}
	}
	if last > begin {
		report.Seconds = float64(last-begin) / 1e9
		report.MsgsPerS = float64(report.Delivered) / report.Seconds
		report.BytesPerS = report.MsgsPerS * float64(b.size)
	}
	report.LatencyUs = percentiles(latencies)
	for _, s := range b.subscribers {
		repeated, err := s.end()
		report.Repeated += repeated
		if err != nil {
			report.ServerEnded = err.Error()
		}
	}
	printReport(report)
}

// percentiles tells some of the latencies, which are in ns, in µs; nil if there are none.
func percentiles(latencies []int64) map[string]float64 {
	count := len(latencies)
	if count == 0 {
		return nil
	}
	sort.Slice(latencies, func(i, j int) bool { return latencies[i] < latencies[j] })
	at := func(part float64) float64 { return float64(latencies[int(part*float64(count-1)+0.5)]) / 1e3 }
	return map[string]float64{"p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "p999": at(0.999), "max": at(1)}
}
