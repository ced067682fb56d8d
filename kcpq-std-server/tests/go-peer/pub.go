package main

import (
	"errors"
	"flag"
	"fmt"
	"time"
)

type pubReport struct {
	Published     uint64 `json:"published"`
	StrictDropped uint64 `json:"strict_dropped"`
}

func runPub(args []string) error {
	flags := flag.NewFlagSet("pub", flag.ContinueOnError)
	addr := flags.String("s", "", "UDP address of the server")
	subject := flags.String("subject", "", "subject to publish to")
	count := flags.Uint64("count", 1, "number of messages")
	first := flags.Uint64("first", 0, "sequence of the first message")
	size := flags.Int("size", 64, "bytes per message, from 12 on")
	rate := flags.Float64("rate", 0, "messages per second; 0: as fast as the server takes them")
	timeout := flags.Duration("timeout", time.Minute, "limit for the whole command")
	readTransport := transportFlags(flags, clientInterval)
	if err := parseFlags(flags, args); err != nil {
		return err
	}
	transport, err := readTransport()
	if err != nil {
		return err
	}
	switch {
	case *addr == "":
		return usageError("-s is missing")
	case len(*subject) > maxSubject:
		return usageError("-subject is longer than %d bytes", maxSubject)
	case *size < messageHeader || 3+len(*subject)+*size > maxBody:
		return usageError("-size must be %d..%d", messageHeader, maxBody-3-len(*subject))
	case !(*rate >= 0):
		return usageError("-rate must not be negative")
	}

	deadline := time.Now().Add(*timeout)
	c, err := dialClient(transport, *addr, *timeout)
	if err != nil {
		return err
	}
	defer c.close()
	begin := time.Now()
	for i := uint64(0); i < *count; i++ {
		if *rate > 0 {
			time.Sleep(time.Until(begin.Add(time.Duration(float64(i) / *rate * float64(time.Second)))))
		}
		message := frame{cmdPub, *subject, newMessage(*first+i, *size)}
		if err := c.send(message, deadline); err != nil {
			return fmt.Errorf("after %d messages: %w", i, err)
		}
	}
	// The server handles frames in order: its PONG says that it has handled all before.
	if err := c.ping(deadline); err != nil {
		return err
	}
	if err := awaitPong(c, deadline); err != nil {
		return err
	}
	printReport(pubReport{*count, c.strict.droppedCount()})
	return nil
}

func awaitPong(c *client, deadline time.Time) error {
	limit := time.After(time.Until(deadline))
	for {
		select {
		case arrived := <-c.frames:
			switch {
			case arrived.err != nil:
				return arrived.err
			case arrived.frame.cmd == cmdPong:
				return nil
			case arrived.frame.cmd == cmdErr:
				return fmt.Errorf("the server says: %s", arrived.frame.subject)
			}
		case <-limit:
			return errors.New("no PONG: the server may not have handled all messages")
		}
	}
}
