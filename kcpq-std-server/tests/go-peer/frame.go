package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

// Commands of a frame (PROTOCOL.md 3.1).
const (
	cmdSub   = 1
	cmdUnsub = 2
	cmdPub   = 3
	cmdMsg   = 4
	cmdPing  = 5
	cmdPong  = 6
	cmdOK    = 7
	cmdErr   = 8
)

// Limits of v2.1 (docs/original.md 5.1).
const (
	maxSubject = 4096
	maxBody    = 8 << 20
)

// frame is one KCPQ frame; OK and ERR carry their text as the subject.
type frame struct {
	cmd     byte
	subject string
	payload []byte
}

// encode checks nothing, as the original's encoder.
func (f frame) encode() []byte {
	body := 3 + len(f.subject) + len(f.payload)
	out := make([]byte, 7, 4+body)
	binary.BigEndian.PutUint32(out, uint32(body))
	out[4] = f.cmd
	binary.BigEndian.PutUint16(out[5:], uint16(len(f.subject)))
	out = append(out, f.subject...)
	return append(out, f.payload...)
}

// readFrame takes the next frame off the byte stream. The checks come in the order of v2.1.
func readFrame(r io.Reader) (frame, error) {
	var length [4]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return frame{}, err
	}
	size := binary.BigEndian.Uint32(length[:])
	if size == 0 || size > maxBody {
		return frame{}, fmt.Errorf("bad frame: body of %d bytes", size)
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(r, body); err != nil {
		return frame{}, err
	}
	if size < 3 {
		return frame{}, fmt.Errorf("bad frame: body of %d bytes", size)
	}
	subject := int(binary.BigEndian.Uint16(body[1:]))
	if subject > maxSubject {
		return frame{}, fmt.Errorf("bad frame: subject of %d bytes", subject)
	}
	if 3+subject > len(body) {
		return frame{}, errors.New("bad frame: the subject overruns the body")
	}
	return frame{body[0], string(body[3 : 3+subject]), body[3+subject:]}, nil
}

// cutText shortens the text of an OK or ERR as v2.1 does: to 4096 bytes, then further until it is valid UTF-8.
func cutText(text string) string {
	if len(text) <= maxSubject {
		return text
	}
	text = text[:maxSubject]
	for len(text) > 0 && !utf8.ValidString(text) {
		text = text[:len(text)-1]
	}
	return text
}
