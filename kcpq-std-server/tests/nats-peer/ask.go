package main

import (
	"errors"
	"fmt"
	"sort"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// ask has another connection answer requests with what they bear, so many of them under way, or so many a second one after the
// other, and prints what `answers` of kcpq-tools does. The first second does not count.
func ask(conn *nats.Conn, subject string, size, underWay, perSecond, seconds int) {
	responder, err := nats.Connect(conn.ConnectedUrl())
	check(err)
	defer responder.Close()
	_, err = responder.Subscribe(subject, func(msg *nats.Msg) { check(msg.Respond(msg.Data)) })
	check(err)
	check(responder.FlushTimeout(patience))

	begin := time.Now().Add(time.Second)
	end := begin.Add(time.Duration(seconds) * time.Second)
	took := make([][]time.Duration, underWay)
	var all sync.WaitGroup
	for who := range took {
		all.Add(1)
		go func(who int) {
			defer all.Done()
			payload := make([]byte, size)
			for next := time.Now(); time.Now().Before(end); {
				if perSecond > 0 {
					time.Sleep(time.Until(next))
					next = next.Add(time.Second / time.Duration(perSecond))
				}
				asked := time.Now()
				_, err := conn.Request(subject, payload, patience)
				check(err)
				if now := time.Now(); now.After(begin) && now.Before(end) {
					took[who] = append(took[who], now.Sub(asked))
				}
			}
		}(who)
	}
	all.Wait()

	var sorted []time.Duration
	for _, own := range took {
		sorted = append(sorted, own...)
	}
	if len(sorted) == 0 {
		check(errors.New("nobody has answered"))
	}
	sort.Slice(sorted, func(a, b int) bool { return sorted[a] < sorted[b] })
	at := func(percent int) int64 { return sorted[len(sorted)*percent/100].Microseconds() }
	fmt.Printf("{\"msgs_per_s\": %d, \"latency_us\": {\"p50\": %d, \"p99\": %d}}\n", len(sorted)/seconds, at(50), at(99))
}
