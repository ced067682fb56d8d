package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// How the original subscribes (docs/original.md 6.2).
const (
	subscribeAttempts  = 3
	subscribeWait      = 5 * time.Second
	subscribePause     = time.Second
	clientWriteTimeout = 5 * time.Second
)

// The original waits 5 s and more between attempts to reconnect; a test has no use for that.
const reconnectPause = 100 * time.Millisecond

// drainWait limits the wait for the last PONG, which only serves to catch late duplicates.
const drainWait = 2 * time.Second

type subReport struct {
	Received      uint64 `json:"received"`
	Lost          uint64 `json:"lost"`
	Duplicated    uint64 `json:"duplicated"`
	Reordered     uint64 `json:"reordered"`
	Corrupt       uint64 `json:"corrupt"`
	Reconnects    uint64 `json:"reconnects"`
	StrictDropped uint64 `json:"strict_dropped"`
}

// errStopped ends a subscriber whose time is up or that was told to stop.
var errStopped = errors.New("stopped")

func runSub(args []string) error {
	flags := flag.NewFlagSet("sub", flag.ContinueOnError)
	s := subscriber{tally: newTally(), stop: make(chan os.Signal, 1)}
	flags.StringVar(&s.addr, "s", "", "UDP address of the server")
	flags.StringVar(&s.subject, "subject", "", "subject or pattern to subscribe to")
	flags.Uint64Var(&s.count, "count", 0, "end after that many distinct messages; 0: at -timeout or SIGTERM")
	timeout := flags.Duration("timeout", time.Minute, "limit for the whole command; a failure if -count is given")
	flags.BoolVar(&s.reconnect, "reconnect", false, "after a failure start again: new socket, new conv")
	flags.DurationVar(&s.pingEvery, "ping", 15*time.Second, "interval of PING")
	flags.DurationVar(&s.readTimeout, "read-timeout", 90*time.Second, "silence that counts as a lost server")
	readTransport := transportFlags(flags, clientInterval)
	if err := parseFlags(flags, args); err != nil {
		return err
	}
	var err error
	if s.transport, err = readTransport(); err != nil {
		return err
	}
	switch {
	case s.addr == "":
		return usageError("-s is missing")
	case len(s.subject) > maxSubject:
		return usageError("-subject is longer than %d bytes", maxSubject)
	case s.pingEvery <= 0 || s.readTimeout <= 0:
		return usageError("-ping and -read-timeout must be above 0")
	}
	signal.Notify(s.stop, syscall.SIGTERM, os.Interrupt)
	s.timeout = time.After(*timeout)
	return s.run()
}

type subscriber struct {
	transport   transport
	addr        string
	subject     string
	count       uint64
	reconnect   bool
	pingEvery   time.Duration
	readTimeout time.Duration
	timeout     <-chan time.Time
	stop        chan os.Signal

	tally      *tally
	reconnects uint64
	dropped    uint64
}

func (s *subscriber) run() error {
	err := s.session()
	for s.reconnect && err != nil && !errors.Is(err, errStopped) {
		fmt.Fprintf(os.Stderr, "connection lost: %v\n", err)
		time.Sleep(reconnectPause)
		s.reconnects++
		err = s.session()
	}
	printReport(subReport{
		Received:      uint64(len(s.tally.seen)),
		Lost:          s.tally.lost(s.count),
		Duplicated:    s.tally.duplicated,
		Reordered:     s.tally.reordered,
		Corrupt:       s.tally.corrupt,
		Reconnects:    s.reconnects,
		StrictDropped: s.dropped,
	})
	if errors.Is(err, errStopped) && s.count == 0 {
		return nil
	}
	return err
}

// session subscribes and receives until all messages are there (nil) or something ends it.
func (s *subscriber) session() error {
	c, err := dialClient(s.transport, s.addr, s.readTimeout)
	if err != nil {
		return err
	}
	defer func() {
		s.dropped += c.strict.droppedCount()
		c.close()
	}()
	request := frame{cmd: cmdSub, subject: s.subject}
	if err := c.send(request, time.Now().Add(clientWriteTimeout)); err != nil {
		return err
	}
	attempts := 1
	acknowledgement := time.NewTimer(subscribeWait)
	defer acknowledgement.Stop()
	ping := time.NewTicker(s.pingEvery)
	defer ping.Stop()
	subscribed := false
	var drained <-chan time.Time
	for {
		select {
		case arrived := <-c.frames:
			if arrived.err != nil {
				return arrived.err
			}
			f := arrived.frame
			switch {
			case f.cmd == cmdMsg:
				s.tally.add(f.payload)
			case f.cmd == cmdPong:
				c.pongs++
			case f.cmd == cmdOK && !subscribed && confirms(f.subject, s.subject):
				subscribed = true
				acknowledgement.Stop()
				fmt.Println("subscribed")
			case f.cmd == cmdErr:
				fmt.Fprintf(os.Stderr, "the server says: %s\n", f.subject)
			}
			if s.count == 0 || s.tally.arrived() < s.count {
				continue
			}
			if drained == nil {
				drained = time.After(drainWait)
				if err := c.ping(time.Now().Add(clientWriteTimeout)); err != nil {
					return err
				}
			} else if c.pongs == c.pings {
				return nil
			}
		case <-drained:
			return nil
		case <-acknowledgement.C:
			if attempts == subscribeAttempts {
				return fmt.Errorf("no OK after %d attempts to subscribe", attempts)
			}
			attempts++
			// As the original: the next attempt comes after a pause. An OK in between counts.
			acknowledgement.Reset(subscribePause + subscribeWait)
			time.AfterFunc(subscribePause, func() {
				_ = c.send(request, time.Now().Add(clientWriteTimeout))
			})
		case <-ping.C:
			if err := c.ping(time.Now().Add(clientWriteTimeout)); err != nil {
				return err
			}
		case <-s.timeout:
			return fmt.Errorf("%w: time is up, %d of %d messages arrived", errStopped, s.tally.arrived(), s.count)
		case <-s.stop:
			return fmt.Errorf("%w: told to stop, %d of %d messages arrived", errStopped, s.tally.arrived(), s.count)
		}
	}
}

// confirms tells an OK to a SUB by its text, as the original does (docs/original.md 5.3).
func confirms(text, subject string) bool {
	const prefix = "subscribed to "
	return text == subject || strings.Contains(text, prefix) && strings.TrimPrefix(text, prefix) == subject
}
