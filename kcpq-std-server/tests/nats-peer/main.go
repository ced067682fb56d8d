// A client of NATS as programs have it: github.com/nats-io/nats.go. The tests of the backbone start it on the other side.
//
//	nats-peer URL pub SUBJECT TEXT [NAME VALUE]     publishes, with a header
//	nats-peer URL sub SUBJECT [QUEUE]               prints "subscribed", then a line for each message: subject, text, headers
//	nats-peer URL serve SUBJECT                     prints "subscribed", answers each request with its text and "!"
//	nats-peer URL request SUBJECT TEXT              prints the answer
//	nats-peer URL ask SUBJECT SIZE UNDER_WAY PER_SECOND SECONDS
//	                                                has requests answered, as many a second as may be if that is 0; prints how fast
//	nats-peer URL kv-make BUCKET
//	nats-peer URL kv-put BUCKET KEY TEXT
//	nats-peer URL kv-get BUCKET KEY                 prints the value
//	nats-peer URL kv-delete BUCKET KEY
//	nats-peer URL kv-watch BUCKET                   prints "watching", then a line for each change: key, operation, text
//
// What goes on does so until it is killed. Exit codes: 0 done, 1 failed, 2 wrong usage.
package main

import (
	"fmt"
	"os"
	"sort"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
)

const patience = 30 * time.Second

func main() {
	if len(os.Args) < 4 {
		usage()
	}
	conn, err := nats.Connect(os.Args[1], nats.Name("nats-peer"))
	check(err)
	defer conn.Close()
	command, args := os.Args[2], os.Args[3:]
	switch {
	case command == "pub" && (len(args) == 2 || len(args) == 4):
		msg := nats.NewMsg(args[0])
		msg.Data = []byte(args[1])
		if len(args) == 4 {
			msg.Header.Set(args[2], args[3])
		}
		check(conn.PublishMsg(msg))
		check(conn.FlushTimeout(patience))
	case command == "sub" && len(args) <= 2:
		queue := ""
		if len(args) == 2 {
			queue = args[1]
		}
		_, err := conn.QueueSubscribe(args[0], queue, func(msg *nats.Msg) {
			names := make([]string, 0, len(msg.Header))
			for name := range msg.Header {
				names = append(names, name)
			}
			sort.Strings(names)
			line := msg.Subject + " " + string(msg.Data)
			for _, name := range names {
				line += " " + name + "=" + msg.Header.Get(name)
			}
			fmt.Println(line)
		})
		check(err)
		check(conn.FlushTimeout(patience))
		goOn("subscribed")
	case command == "serve" && len(args) == 1:
		_, err := conn.Subscribe(args[0], func(msg *nats.Msg) {
			check(msg.Respond(append(msg.Data, '!')))
		})
		check(err)
		check(conn.FlushTimeout(patience))
		goOn("subscribed")
	case command == "request" && len(args) == 2:
		answer, err := conn.Request(args[0], []byte(args[1]), patience)
		check(err)
		fmt.Println(string(answer.Data))
	case command == "ask" && len(args) == 5:
		var numbers [4]int
		for place := range numbers {
			numbers[place], err = strconv.Atoi(args[place+1])
			check(err)
		}
		ask(conn, args[0], numbers[0], numbers[1], numbers[2], numbers[3])
	case command == "kv-make" && len(args) == 1:
		js, err := conn.JetStream()
		check(err)
		_, err = js.CreateKeyValue(&nats.KeyValueConfig{Bucket: args[0]})
		check(err)
	case command == "kv-put" && len(args) == 3:
		_, err := bucket(conn, args[0]).PutString(args[1], args[2])
		check(err)
	case command == "kv-get" && len(args) == 2:
		entry, err := bucket(conn, args[0]).Get(args[1])
		check(err)
		fmt.Println(string(entry.Value()))
	case command == "kv-delete" && len(args) == 2:
		check(bucket(conn, args[0]).Delete(args[1]))
	case command == "kv-watch" && len(args) == 1:
		watcher, err := bucket(conn, args[0]).WatchAll()
		check(err)
		go func() {
			for entry := range watcher.Updates() {
				// All that was there before has come.
				if entry == nil {
					fmt.Println("watching")
					continue
				}
				operation := map[nats.KeyValueOp]string{
					nats.KeyValuePut: "PUT", nats.KeyValueDelete: "DEL", nats.KeyValuePurge: "PURGE",
				}[entry.Operation()]
				fmt.Println(entry.Key(), operation, string(entry.Value()))
			}
		}()
		goOn("")
	default:
		usage()
	}
}

func bucket(conn *nats.Conn, name string) nats.KeyValue {
	js, err := conn.JetStream()
	check(err)
	kv, err := js.KeyValue(name)
	check(err)
	return kv
}

// Says that it has begun, and goes on.
func goOn(begun string) {
	if begun != "" {
		fmt.Println(begun)
	}
	select {}
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "nats-peer:", err)
		os.Exit(1)
	}
}

func usage() {
	fmt.Fprintln(os.Stderr, "nats-peer: see the head of main.go")
	os.Exit(2)
}
