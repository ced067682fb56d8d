package main

import (
	"encoding/hex"
	"flag"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"

	kcp "github.com/xtaci/kcp-go"
)

const keyVariable = "KCPQ_AES256_KEY_HEX"

// How often the original's two roles flush, in ms. Between two flushes an acknowledgement waits, unless something is
// written to the same session.
const (
	clientInterval = 10
	serverInterval = 20
)

// transport is what both ends of a connection must agree on, from the flags -fec, -aes and -strict, and what each is
// free to choose: -interval and -ack-at-once.
type transport struct {
	data, parity int
	key          []byte
	strict       bool
	interval     int
	ackAtOnce    bool
}

// transportFlags adds the flags, with the interval of the command's role; the returned function reads them once they
// are parsed.
func transportFlags(flags *flag.FlagSet, interval int) func() (transport, error) {
	fec := flags.String("fec", "10/3", "FEC shards, data/parity, or off (then no FEC header either)")
	aes := flags.Bool("aes", false, "AES-256 with the key in "+keyVariable)
	strict := flags.Bool("strict", false, "drop and count datagrams that kcp-go 5.4.20 would not accept")
	flags.IntVar(&interval, "interval", interval, "ms from flush to flush, 10..5000: so long acknowledgements wait")
	ackAtOnce := flags.Bool("ack-at-once", false, "acknowledge each datagram at once, which the original does not")
	return func() (transport, error) {
		t := transport{strict: *strict, interval: interval, ackAtOnce: *ackAtOnce}
		// kcp-go would take the nearest of these without a word.
		if interval < 10 || interval > 5000 {
			return t, usageError("-interval must be 10..5000")
		}
		var err error
		if t.data, t.parity, err = parseShards(*fec); err != nil {
			return t, err
		}
		if t.strict && t.data == 0 {
			return t, usageError("-strict asks for FEC framing, which -fec off takes away")
		}
		if *aes {
			if t.key, err = hex.DecodeString(os.Getenv(keyVariable)); err != nil || len(t.key) != 32 {
				return t, usageError("-aes needs 64 hex digits in %s", keyVariable)
			}
		}
		return t, nil
	}
}

func parseShards(text string) (data, parity int, err error) {
	if text == "off" {
		return 0, 0, nil
	}
	parts := strings.Split(text, "/")
	if len(parts) == 2 {
		data, err = strconv.Atoi(parts[0])
		if err == nil {
			parity, err = strconv.Atoi(parts[1])
		}
		if err == nil && data > 0 && parity > 0 && data+parity <= 255 {
			return data, parity, nil
		}
	}
	return 0, 0, usageError("-fec wants DATA/PARITY or off, not %q", text)
}

// listen opens the server's socket, with the kernel's buffer sizes as the original does (docs/original.md 6.1).
func (t transport) listen(addr string) (*kcp.Listener, *strictConn, error) {
	socket, err := net.ListenPacket("udp", addr)
	if err != nil {
		return nil, nil, err
	}
	conn, strict := t.wrap(socket)
	listener, err := kcp.ServeConn(t.block(), t.data, t.parity, conn)
	return listener, strict, err
}

// dial opens a session to addr: a new socket and a random conv. Nothing is sent.
func (t transport) dial(addr string) (*kcp.UDPSession, net.PacketConn, *strictConn, error) {
	remote, err := net.ResolveUDPAddr("udp", addr)
	if err != nil {
		return nil, nil, nil, err
	}
	network := "udp4"
	if remote.IP.To4() == nil {
		network = "udp6"
	}
	socket, err := net.ListenUDP(network, nil)
	if err != nil {
		return nil, nil, nil, err
	}
	// A request: the kernel's limit may be lower.
	_ = socket.SetReadBuffer(4 << 20)
	_ = socket.SetWriteBuffer(4 << 20)
	conn, strict := t.wrap(socket)
	session, err := kcp.NewConn2(remote, t.block(), t.data, t.parity, conn)
	if err != nil {
		socket.Close()
		return nil, nil, nil, err
	}
	t.tune(session)
	return session, socket, strict, nil
}

// tune sets what the original sets on every session, but for -interval and -ack-at-once. kcp-go has started the session's
// timer before: if that ticks first, the next tick comes after kcp-go's own interval, 100 ms.
func (t transport) tune(session *kcp.UDPSession) {
	session.SetNoDelay(1, t.interval, 2, 1)
	session.SetWindowSize(1024, 1024)
	session.SetStreamMode(false)
	session.SetWriteDelay(false)
	session.SetACKNoDelay(t.ackAtOnce)
}

func (t transport) wrap(socket net.PacketConn) (net.PacketConn, *strictConn) {
	if !t.strict {
		return socket, nil
	}
	strict := &strictConn{PacketConn: socket, block: t.cipher()}
	return strict, strict
}

func (t transport) block() kcp.BlockCrypt {
	if t.key == nil {
		return nil
	}
	return &lockedCrypt{block: t.cipher()}
}

// cipher returns an untyped nil without a key: kcp-go compares the interface with nil.
func (t transport) cipher() kcp.BlockCrypt {
	if t.key == nil {
		return nil
	}
	block, err := kcp.NewAESBlockCrypt(t.key)
	if err != nil {
		panic(fmt.Sprintf("32 bytes are an AES key: %v", err))
	}
	return block
}

// lockedCrypt makes a kcp-go cipher usable by the sessions of a listener: it works in a buffer of its own.
type lockedCrypt struct {
	mu    sync.Mutex
	block kcp.BlockCrypt
}

func (c *lockedCrypt) Encrypt(dst, src []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.block.Encrypt(dst, src)
}

func (c *lockedCrypt) Decrypt(dst, src []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.block.Decrypt(dst, src)
}
