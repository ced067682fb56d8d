package main

import (
	"net"
	"time"

	kcp "github.com/xtaci/kcp-go"
)

// client is one session to a server, from its first frame until it fails. Its fields but frames belong to the
// goroutine that dialled.
type client struct {
	conn   *kcp.UDPSession
	socket net.PacketConn
	strict *strictConn

	// frames delivers what the server says; the last item carries the error that ended the session.
	frames chan arrival
	closed chan struct{}

	// Answers come in the order of the requests, so counting is enough to tell which PONG is meant.
	pings, pongs int
}

type arrival struct {
	frame frame
	err   error
}

func dialClient(transport transport, addr string, readTimeout time.Duration) (*client, error) {
	conn, socket, strict, err := transport.dial(addr)
	if err != nil {
		return nil, err
	}
	c := &client{
		conn:   conn,
		socket: socket,
		strict: strict,
		frames: make(chan arrival, 64),
		closed: make(chan struct{}),
	}
	go c.read(readTimeout)
	return c, nil
}

// read sets the deadline before each frame and does not extend it while the frame arrives, as the original does.
func (c *client) read(timeout time.Duration) {
	for {
		_ = c.conn.SetReadDeadline(time.Now().Add(timeout))
		f, err := readFrame(c.conn)
		select {
		case c.frames <- arrival{f, err}:
		case <-c.closed:
			return
		}
		if err != nil {
			return
		}
	}
}

// send blocks while the send window is full, until the deadline.
func (c *client) send(f frame, deadline time.Time) error {
	_ = c.conn.SetWriteDeadline(deadline)
	_, err := c.conn.Write(f.encode())
	return err
}

func (c *client) ping(deadline time.Time) error {
	c.pings++
	return c.send(frame{cmd: cmdPing}, deadline)
}

func (c *client) close() {
	close(c.closed)
	c.conn.Close()
	c.socket.Close()
}
