package main

import (
	"encoding/binary"
	"errors"
	"sync"
	"time"
)

// benchClock tells Unix time in ns, so that processes on one machine agree, and goes on evenly when that is set.
type benchClock time.Time

func (c benchClock) now() int64 {
	begun := time.Time(c)
	return begun.UnixNano() + time.Since(begun).Nanoseconds()
}

// benchSubscriber counts what comes over a connection.
type benchSubscriber struct {
	client *client
	clock  benchClock

	mu        sync.Mutex
	delivered uint64
	arrivals  []benchArrival
	// next is the sequence after the highest one. missing counts what was passed over since the last take, repeated what
	// came again, or after a higher one.
	next, missing, repeated uint64
	ended                   error
}

// benchArrival is a message: when it came and when it was due, in ns; due is 0 for those that do not tell.
type benchArrival struct {
	at, due int64
}

func newBenchSubscriber(b *bench) (*benchSubscriber, error) {
	c, err := dialClient(b.transport, b.addr, serverReadTimeout)
	if err != nil {
		return nil, err
	}
	if err := subscribeTo(c, b.subject); err != nil {
		c.close()
		return nil, err
	}
	s := &benchSubscriber{client: c, clock: b.clock}
	go s.receive()
	return s, nil
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

func (s *benchSubscriber) receive() {
	for arrived := range s.client.frames {
		if arrived.err != nil {
			s.mu.Lock()
			s.ended = arrived.err
			s.mu.Unlock()
			return
		}
		if arrived.frame.cmd == cmdMsg && len(arrived.frame.payload) >= benchHeader {
			s.add(arrived.frame.payload)
		}
	}
}

func (s *benchSubscriber) add(message []byte) {
	now := s.clock.now()
	sequence, due := binary.BigEndian.Uint64(message), int64(binary.BigEndian.Uint64(message[8:]))
	s.mu.Lock()
	defer s.mu.Unlock()
	if sequence < s.next {
		s.repeated++
		return
	}
	s.missing += sequence - s.next
	s.next = sequence + 1
	s.delivered++
	s.arrivals = append(s.arrivals, benchArrival{now, due})
}

// total counts all messages so far.
func (s *benchSubscriber) total() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.delivered
}

// expected counts those since the last take, and those that are missing between them.
func (s *benchSubscriber) expected() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return uint64(len(s.arrivals)) + s.missing
}

// take returns what has come since the last time.
func (s *benchSubscriber) take() []benchArrival {
	s.mu.Lock()
	defer s.mu.Unlock()
	taken := s.arrivals
	s.arrivals, s.missing = nil, 0
	return taken
}

// end tells how many messages came again, and why the session is over, if it is.
func (s *benchSubscriber) end() (repeated uint64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.repeated, s.ended
}
