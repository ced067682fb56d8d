package main

import (
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"sort"
	"sync"
	"sync/atomic"
	"time"
)

// benchHeader is the size of the smallest message: sequence and when it was due, in ns (both u64 BE).
const benchHeader = 16

// benchPatience is how long nothing has to come before the rest is lost.
const benchPatience = 5 * time.Second

// benchReport has the fields of `kcpq bench --json` that apply.
type benchReport struct {
	Published   uint64             `json:"published"`
	Delivered   uint64             `json:"delivered"`
	Lost        uint64             `json:"lost"`
	Seconds     float64            `json:"seconds"`
	MsgsPerS    float64            `json:"msgs_per_s"`
	BytesPerS   float64            `json:"bytes_per_s"`
	LatencyUs   map[string]float64 `json:"latency_us"`
	ServerEnded string             `json:"server_ended,omitempty"`
}

// bench is a publisher and a subscriber in one process, so that one clock measures.
type bench struct {
	size   int
	rate   float64
	window uint64
	begun  time.Time

	published uint64
	delivered uint64
	// last is when the last message came, in ns since begun.
	last int64

	mu        sync.Mutex
	latencies []time.Duration
	ended     error
}

func runBench(args []string) error {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	addr := flags.String("s", "", "UDP address of the server")
	b := &bench{begun: time.Now()}
	flags.IntVar(&b.size, "size", 128, "bytes per message, from 16 on")
	flags.Float64Var(&b.rate, "rate", 0, "messages per second, due at fixed times; 0: as many as it takes")
	flags.Uint64Var(&b.window, "window", 1000, "without -rate: most messages under way")
	duration := flags.Duration("duration", 5*time.Second, "how long to publish")
	warmup := flags.Duration("warmup", 0, "how long to publish before measuring")
	readTransport := transportFlags(flags, clientInterval)
	if err := parseFlags(flags, args); err != nil {
		return err
	}
	transport, err := readTransport()
	switch {
	case err != nil:
		return err
	case *addr == "":
		return usageError("-s is missing")
	case b.size < benchHeader || b.size > maxBody/2:
		return usageError("-size must be %d..%d", benchHeader, maxBody/2)
	case !(b.rate >= 0):
		return usageError("-rate must not be negative")
	}
	return b.run(transport, *addr, *warmup, *duration)
}

func (b *bench) run(transport transport, addr string, warmup, duration time.Duration) error {
	subscriber, err := dialClient(transport, addr, serverReadTimeout)
	if err != nil {
		return err
	}
	defer subscriber.close()
	if err := subscribeTo(subscriber, "bench"); err != nil {
		return err
	}
	go b.receive(subscriber)
	publisher, err := dialClient(transport, addr, serverReadTimeout)
	if err != nil {
		return err
	}
	defer publisher.close()
	if err := b.publish(publisher, warmup); err != nil {
		return err
	}
	b.settle()
	b.mu.Lock()
	b.latencies = nil
	b.mu.Unlock()
	published, delivered, begin := b.published, atomic.LoadUint64(&b.delivered), time.Since(b.begun)
	if err := b.publish(publisher, duration); err != nil {
		return err
	}
	b.settle()
	b.report(b.published-published, atomic.LoadUint64(&b.delivered)-delivered, begin)
	return nil
}

func subscribeTo(c *client, subject string) error {
	if err := c.send(frame{cmd: cmdSub, subject: subject}, time.Now().Add(clientWriteTimeout)); err != nil {
		return err
	}
	limit := time.After(subscribeAttempts * subscribeWait)
	for {
		select {
		case arrived := <-c.frames:
			if arrived.err != nil {
				return arrived.err
			}
			if arrived.frame.cmd == cmdOK && confirms(arrived.frame.subject, subject) {
				return nil
			}
		case <-limit:
			return errors.New("no OK to the subscription")
		}
	}
}

// publish sends for that long: at fixed times, whatever happens, or as many as the window lets through.
func (b *bench) publish(c *client, length time.Duration) error {
	begin := time.Since(b.begun)
	for i := 0; ; i++ {
		due := time.Since(b.begun)
		if b.rate > 0 {
			due = begin + time.Duration(float64(i)/b.rate*float64(time.Second))
			time.Sleep(due - time.Since(b.begun))
		} else if !b.room() {
			return nil
		}
		if due-begin >= length {
			return nil
		}
		message := make([]byte, b.size)
		binary.BigEndian.PutUint64(message, b.published)
		binary.BigEndian.PutUint64(message[8:], uint64(due))
		if err := c.send(frame{cmdPub, "bench", message}, time.Now().Add(time.Minute)); err != nil {
			return fmt.Errorf("after %d messages: %w", b.published, err)
		}
		b.published++
	}
}

// room waits until the window lets a message through; false when nothing has come for long.
func (b *bench) room() bool {
	return b.await(func(delivered uint64) bool { return b.published < delivered+b.window })
}

// settle waits until all has come, or nothing more does.
func (b *bench) settle() {
	b.await(func(delivered uint64) bool { return delivered >= b.published })
}

func (b *bench) await(enough func(delivered uint64) bool) bool {
	seen, since := uint64(0), time.Now()
	for {
		delivered := atomic.LoadUint64(&b.delivered)
		if enough(delivered) {
			return true
		}
		if delivered != seen {
			seen, since = delivered, time.Now()
		} else if time.Since(since) > benchPatience {
			return false
		}
		time.Sleep(time.Millisecond)
	}
}

func (b *bench) receive(c *client) {
	for arrived := range c.frames {
		now := time.Since(b.begun)
		if arrived.err != nil {
			b.mu.Lock()
			b.ended = arrived.err
			b.mu.Unlock()
			return
		}
		if arrived.frame.cmd != cmdMsg || len(arrived.frame.payload) < benchHeader {
			continue
		}
		due := time.Duration(binary.BigEndian.Uint64(arrived.frame.payload[8:]))
		b.mu.Lock()
		b.latencies = append(b.latencies, now-due)
		b.mu.Unlock()
		atomic.StoreInt64(&b.last, int64(now))
		atomic.AddUint64(&b.delivered, 1)
	}
}

func (b *bench) report(published, delivered uint64, begin time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	sort.Slice(b.latencies, func(i, j int) bool { return b.latencies[i] < b.latencies[j] })
	report := benchReport{Published: published, Delivered: delivered}
	if published > delivered {
		report.Lost = published - delivered
	}
	report.Seconds = (time.Duration(atomic.LoadInt64(&b.last)) - begin).Seconds()
	if report.Seconds > 0 {
		report.MsgsPerS = float64(delivered) / report.Seconds
		report.BytesPerS = report.MsgsPerS * float64(b.size)
	}
	if count := len(b.latencies); count > 0 {
		at := func(part float64) float64 {
			return float64(b.latencies[int(part*float64(count-1)+0.5)].Nanoseconds()) / 1e3
		}
		report.LatencyUs = map[string]float64{
			"p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "p999": at(0.999), "max": at(1),
		}
	}
	if b.ended != nil {
		report.ServerEnded = b.ended.Error()
	}
	printReport(report)
}
