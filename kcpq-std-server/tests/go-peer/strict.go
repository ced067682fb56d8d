package main

import (
	"encoding/binary"
	"hash/crc32"
	"net"
	"sync/atomic"

	kcp "github.com/xtaci/kcp-go"
)

// strictConn hides from kcp-go 5.6.1 what 5.4.20 would not have accepted, and counts it: Debian's version forgives
// peers that the deployed one does not hear (docs/original.md 2.1).
//
// A datagram with a wrong CRC is passed on uncounted: every version drops it, and it tells of the link, not of the peer.
type strictConn struct {
	net.PacketConn
	// block is not shared with kcp-go; nil without encryption. Only the one reader of the socket uses it.
	block   kcp.BlockCrypt
	buffer  [2048]byte
	clear   [2048]byte
	dropped uint64
}

const (
	cryptHeader = 20
	// smallest is FEC header, size and one KCP segment header.
	smallest = 8 + 24
	// largest is kcp-go's mtuLimit: its buffers cut what is longer.
	largest = 1500

	typeData   = 0x00f1
	typeParity = 0x00f2
)

func (s *strictConn) ReadFrom(p []byte) (int, net.Addr, error) {
	for {
		n, from, err := s.PacketConn.ReadFrom(s.buffer[:])
		if err != nil {
			return 0, nil, err
		}
		if s.accepts(s.buffer[:n]) {
			return copy(p, s.buffer[:n]), from, nil
		}
		atomic.AddUint64(&s.dropped, 1)
	}
}

func (s *strictConn) accepts(datagram []byte) bool {
	if len(datagram) > largest {
		return false
	}
	body := datagram
	if s.block != nil {
		if len(datagram) < cryptHeader+smallest {
			return false
		}
		clear := s.clear[:len(datagram)]
		s.block.Decrypt(clear, datagram)
		body = clear[cryptHeader:]
		if crc32.ChecksumIEEE(body) != binary.LittleEndian.Uint32(clear[16:]) {
			return true
		}
	}
	if len(body) < smallest {
		return false
	}
	kind := binary.LittleEndian.Uint16(body[4:])
	return kind == typeData || kind == typeParity
}

// droppedCount is 0 for a nil strictConn, i.e. without -strict.
func (s *strictConn) droppedCount() uint64 {
	if s == nil {
		return 0
	}
	return atomic.LoadUint64(&s.dropped)
}
