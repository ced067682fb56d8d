package main

import (
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"time"
)

// benchHeader is the size of the smallest message: sequence and when it was due, in ns (both u64 BE).
const benchHeader = 16

// benchPatience is how long nothing has to come before the rest is lost, and benchOthers how long to wait for the first
// message of a publisher elsewhere.
const (
	benchPatience = 5 * time.Second
	benchOthers   = time.Minute
)

// bench is a publisher and subscribers in one process, each on a connection of its own; or only one of these roles,
// with the other one in another process on this machine, which must have the same clock.
type bench struct {
	addr      string
	transport transport
	subject   string
	size      int
	rate      float64
	window    uint64
	count     uint64
	duration  time.Duration
	warmup    time.Duration

	clock       benchClock
	publisher   *client
	published   uint64
	subscribers []*benchSubscriber
}

func runBench(args []string) error {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	b := &bench{clock: benchClock(time.Now())}
	flags.StringVar(&b.addr, "s", "", "UDP address of the server")
	flags.StringVar(&b.subject, "subject", "bench", "subject of the messages")
	flags.IntVar(&b.size, "size", 128, "bytes per message, from 16 on")
	flags.Float64Var(&b.rate, "rate", 0, "messages per second, due at fixed times; 0: as many as it takes")
	flags.Uint64Var(&b.window, "window", 1000, "without -rate: most messages under way to the slowest subscriber")
	flags.Uint64Var(&b.count, "count", 0, "end after that many messages, if that comes before -duration; 0: no limit")
	flags.DurationVar(&b.duration, "duration", 5*time.Second, "how long to publish, or to receive from the first message on")
	flags.DurationVar(&b.warmup, "warmup", 0, "how long to do so before measuring")
	pubs := flags.Int("pubs", 1, "1, or 0: somebody else publishes")
	subs := flags.Int("subs", 1, "subscribers; 0: somebody else subscribes")
	readTransport := transportFlags(flags, clientInterval)
	if err := parseFlags(flags, args); err != nil {
		return err
	}
	var err error
	b.transport, err = readTransport()
	switch {
	case err != nil:
		return err
	case b.addr == "":
		return usageError("-s is missing")
	case len(b.subject) > maxSubject:
		return usageError("-subject is longer than %d bytes", maxSubject)
	case b.size < benchHeader || b.size > maxBody/2:
		return usageError("-size must be %d..%d", benchHeader, maxBody/2)
	case !(b.rate >= 0):
		return usageError("-rate must not be negative")
	case *pubs < 0 || *pubs > 1 || *subs < 0 || *pubs+*subs == 0:
		return usageError("-pubs must be 0 or 1, -subs 0 or more, and not both 0")
	case *subs == 0 && b.rate == 0:
		return usageError("-subs 0 needs -rate: there is nobody to wait for")
	case b.window == 0:
		return usageError("-window must be at least 1")
	}
	return b.run(*pubs, *subs)
}

func (b *bench) run(pubs, subs int) error {
	for i := 0; i < subs; i++ {
		subscriber, err := newBenchSubscriber(b)
		if err != nil {
			return err
		}
		defer subscriber.client.close()
		b.subscribers = append(b.subscribers, subscriber)
	}
	if pubs == 0 {
		return b.watch()
	}
	var err error
	if b.publisher, err = dialClient(b.transport, b.addr, serverReadTimeout); err != nil {
		return err
	}
	defer b.publisher.close()
	if err := b.publish(b.warmup, 0); err != nil {
		return err
	}
	b.settle()
	b.takeArrivals()
	before, begin := b.published, b.clock.now()
	if err := b.publish(b.duration, b.count); err != nil {
		return err
	}
	// Without subscribers the PONG tells that the server has handled all.
	if subs == 0 {
		deadline := time.Now().Add(time.Minute)
		if err := b.publisher.ping(deadline); err != nil {
			return err
		}
		if err := awaitPong(b.publisher, deadline); err != nil {
			return err
		}
	}
	b.settle()
	published := b.published - before
	b.report(published, published*uint64(subs), begin)
	return nil
}

// watch receives what somebody else publishes: from the first message on, that much longer, or until no more comes.
func (b *bench) watch() error {
	if !b.await(benchOthers, func() bool { return b.slowest() > 0 }) {
		return errors.New("nothing came")
	}
	begin := b.clock.now()
	if b.warmup > 0 {
		b.receive(b.warmup)
		b.takeArrivals()
		begin = b.clock.now()
	}
	b.receive(b.duration)
	var expected uint64
	for _, s := range b.subscribers {
		expected += s.expected()
	}
	b.report(expected/uint64(len(b.subscribers)), expected, begin)
	return nil
}

// receive waits that long, until all subscribers have -count messages, or until no more comes.
func (b *bench) receive(length time.Duration) {
	end := b.clock.now() + length.Nanoseconds()
	b.await(benchPatience, func() bool { return b.clock.now() >= end || b.count > 0 && b.slowest() >= b.count })
}

// publish sends for that long, or that many: at fixed times, whatever happens, or as many as the window lets through.
func (b *bench) publish(length time.Duration, count uint64) error {
	begin := b.clock.now()
	for i := uint64(0); count == 0 || i < count; i++ {
		due := b.clock.now()
		if b.rate > 0 {
			due = begin + int64(float64(i)/b.rate*1e9)
			time.Sleep(time.Duration(due - b.clock.now()))
		} else if !b.await(benchPatience, func() bool { return b.published < b.slowest()+b.window }) {
			return nil
		}
		if due-begin >= length.Nanoseconds() {
			return nil
		}
		message := make([]byte, b.size)
		binary.BigEndian.PutUint64(message, b.published)
		binary.BigEndian.PutUint64(message[8:], uint64(due))
		if err := b.publisher.send(frame{cmdPub, b.subject, message}, time.Now().Add(time.Minute)); err != nil {
			return fmt.Errorf("after %d messages: %w", b.published, err)
		}
		b.published++
	}
	return nil
}

// settle waits until all has come, or nothing more does.
func (b *bench) settle() {
	if len(b.subscribers) > 0 {
		b.await(benchPatience, func() bool { return b.slowest() >= b.published })
	}
}

// await looks until there is enough; false when nothing has come for that long.
func (b *bench) await(patience time.Duration, enough func() bool) bool {
	seen, since := uint64(0), time.Now()
	for !enough() {
		if delivered := b.slowest(); delivered != seen {
			seen, since = delivered, time.Now()
		} else if time.Since(since) > patience {
			return false
		}
		time.Sleep(time.Millisecond)
	}
	return true
}

// slowest tells how many messages the subscriber has that has the fewest.
func (b *bench) slowest() uint64 {
	var least uint64
	for i, s := range b.subscribers {
		if delivered := s.total(); i == 0 || delivered < least {
			least = delivered
		}
	}
	return least
}

// takeArrivals returns what has come since the last time, to all subscribers.
func (b *bench) takeArrivals() []benchArrival {
	var all []benchArrival
	for _, s := range b.subscribers {
		all = append(all, s.take()...)
	}
	return all
}
