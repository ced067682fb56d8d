package main

import (
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	kcp "github.com/xtaci/kcp-go"
)

// Limits of a session of the original's v2.1 server (docs/original.md 6.3).
const (
	serverReadTimeout  = 120 * time.Second
	serverWriteTimeout = 5 * time.Second
	queueBytes         = 32 << 20
)

type serveReport struct {
	Sessions      uint64 `json:"sessions"`
	StrictDropped uint64 `json:"strict_dropped"`
}

func runServe(args []string) error {
	flags := flag.NewFlagSet("serve", flag.ContinueOnError)
	addr := flags.String("listen", "127.0.0.1:0", "UDP address")
	queue := flags.Int("queue", 1024, "frames that may wait for a session; one more closes it")
	readTransport := transportFlags(flags, serverInterval)
	if err := parseFlags(flags, args); err != nil {
		return err
	}
	transport, err := readTransport()
	if err != nil {
		return err
	}
	if *queue < 1 {
		return usageError("-queue must be at least 1")
	}
	listener, strict, err := transport.listen(*addr)
	if err != nil {
		return err
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, os.Interrupt)
	fmt.Printf("listening %s\n", listener.Addr())

	server := &server{transport: transport, queue: *queue, sessions: make(map[*serverSession]struct{})}
	failed := make(chan error, 1)
	go func() { failed <- server.accept(listener) }()
	select {
	case err = <-failed:
	case <-stop:
	}
	printReport(serveReport{atomic.LoadUint64(&server.accepted), strict.droppedCount()})
	return err
}

type server struct {
	accepted  uint64
	transport transport
	queue     int

	mu       sync.Mutex
	sessions map[*serverSession]struct{}
}

func (s *server) accept(listener *kcp.Listener) error {
	for {
		conn, err := listener.AcceptKCP()
		if err != nil {
			return err
		}
		atomic.AddUint64(&s.accepted, 1)
		session := &serverSession{
			server: s,
			conn:   conn,
			out:    make(chan []byte, s.queue),
			closed: make(chan struct{}),
		}
		s.mu.Lock()
		s.sessions[session] = struct{}{}
		s.mu.Unlock()
		go session.serve()
	}
}

// publish gives one MSG to each session with a pattern that matches, however many of its patterns do.
func (s *server) publish(subject string, payload []byte) {
	encoded := frame{cmdMsg, subject, payload}.encode()
	s.mu.Lock()
	defer s.mu.Unlock()
	for session := range s.sessions {
		if session.wants(subject) {
			session.send(encoded)
		}
	}
}

// serverSession is one client. Its patterns belong to the server's lock.
type serverSession struct {
	server   *server
	conn     *kcp.UDPSession
	patterns []string

	out    chan []byte
	queued int64

	closing sync.Once
	closed  chan struct{}
}

func (s *serverSession) wants(subject string) bool {
	for _, pattern := range s.patterns {
		if matches(pattern, subject) {
			return true
		}
	}
	return false
}

// serve sets the session up in its own goroutine, as the original does: kcp-go's timer may have ticked by then.
func (s *serverSession) serve() {
	s.server.transport.tune(s.conn)
	go s.write()
	for {
		_ = s.conn.SetReadDeadline(time.Now().Add(serverReadTimeout))
		f, err := readFrame(s.conn)
		if err != nil {
			s.end(err.Error())
			return
		}
		s.handle(f)
	}
}

// handle answers as docs/original.md 5.2 lists it.
func (s *serverSession) handle(f frame) {
	switch f.cmd {
	case cmdSub:
		s.subscribe(f.subject)
		s.reply(cmdOK, "subscribed to "+f.subject)
	case cmdUnsub:
		s.unsubscribe(f.subject)
		s.reply(cmdOK, "unsubscribed from "+f.subject)
	case cmdPub:
		s.server.publish(f.subject, f.payload)
	case cmdPing:
		s.reply(cmdPong, "")
	default:
		s.reply(cmdErr, "handle error: unknown command: "+strconv.Itoa(int(f.cmd)))
	}
}

func (s *serverSession) subscribe(pattern string) {
	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	for _, known := range s.patterns {
		if known == pattern {
			return
		}
	}
	s.patterns = append(s.patterns, pattern)
}

func (s *serverSession) unsubscribe(pattern string) {
	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	for i, known := range s.patterns {
		if known == pattern {
			s.patterns = append(s.patterns[:i], s.patterns[i+1:]...)
			return
		}
	}
}

func (s *serverSession) reply(cmd byte, text string) {
	s.send(frame{cmd: cmd, subject: cutText(text)}.encode())
}

// send queues a frame. A session that does not keep up is closed, as v2.1 does.
func (s *serverSession) send(encoded []byte) {
	if atomic.AddInt64(&s.queued, int64(len(encoded))) > queueBytes {
		go s.end("output queue full: bytes")
		return
	}
	select {
	case s.out <- encoded:
	case <-s.closed:
	default:
		// In a goroutine of its own: the publisher holds the lock that the end of a session takes.
		go s.end("output queue full: frames")
	}
}

func (s *serverSession) write() {
	for {
		select {
		case encoded := <-s.out:
			atomic.AddInt64(&s.queued, -int64(len(encoded)))
			_ = s.conn.SetWriteDeadline(time.Now().Add(serverWriteTimeout))
			if _, err := s.conn.Write(encoded); err != nil {
				s.end(err.Error())
				return
			}
		case <-s.closed:
			return
		}
	}
}

// end forgets the session without a word to the client: the original has no close message.
func (s *serverSession) end(reason string) {
	s.closing.Do(func() {
		fmt.Fprintf(os.Stderr, "session %s ended: %s\n", s.conn.RemoteAddr(), reason)
		close(s.closed)
		s.server.mu.Lock()
		delete(s.server.sessions, s)
		s.server.mu.Unlock()
		s.conn.Close()
	})
}
