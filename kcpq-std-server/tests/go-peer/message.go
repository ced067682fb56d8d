package main

import (
	"encoding/binary"
	"hash/crc32"
)

// messageHeader is the size of the smallest message: sequence (u64 BE) and checksum (u32 BE).
const messageHeader = 12

// newMessage makes the numbered payload that README.md defines.
func newMessage(sequence uint64, size int) []byte {
	message := make([]byte, size)
	filler := message[messageHeader:]
	fill(filler, sequence)
	binary.BigEndian.PutUint64(message, sequence)
	binary.BigEndian.PutUint32(message[8:], crc32.ChecksumIEEE(filler))
	return message
}

// checkMessage returns the sequence of an intact message. The filler is made again and not only summed up, so that
// damage to the sequence shows as well.
func checkMessage(message []byte) (sequence uint64, intact bool) {
	if len(message) < messageHeader {
		return 0, false
	}
	sequence = binary.BigEndian.Uint64(message)
	return sequence, string(newMessage(sequence, len(message))) == string(message)
}

// fill writes the top bytes of a linear congruential generator (Knuth's MMIX) that starts from the sequence.
func fill(filler []byte, sequence uint64) {
	state := sequence
	for i := range filler {
		state = state*6364136223846793005 + 1442695040888963407
		filler[i] = byte(state >> 56)
	}
}

// tally judges the messages of one publisher, which numbers them from 0 on.
type tally struct {
	seen       map[uint64]struct{}
	highest    uint64
	duplicated uint64
	reordered  uint64
	corrupt    uint64
}

func newTally() *tally {
	return &tally{seen: make(map[uint64]struct{})}
}

func (t *tally) add(message []byte) {
	sequence, intact := checkMessage(message)
	_, again := t.seen[sequence]
	switch {
	case !intact:
		t.corrupt++
		return
	case again:
		t.duplicated++
		return
	case len(t.seen) > 0 && sequence < t.highest:
		t.reordered++
	default:
		t.highest = sequence
	}
	t.seen[sequence] = struct{}{}
}

// arrived counts distinct messages, damaged ones included: what a subscriber waits for.
func (t *tally) arrived() uint64 {
	return uint64(len(t.seen)) + t.corrupt
}

// lost counts what is missing of expected messages, or, when that is 0, of 0..=highest.
func (t *tally) lost(expected uint64) uint64 {
	if expected == 0 && len(t.seen) > 0 {
		expected = t.highest + 1
	}
	if expected < t.arrived() {
		return 0
	}
	return expected - t.arrived()
}
