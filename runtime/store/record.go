package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"time"
)

// A record's file is one line of text, which holds the hash of the rest, and
// a JSON envelope around the value:
//
//	strata-record-1 <sha256 of all that follows the line>
//	{"bucket":…,"key":…,"refs":[…],"created":…,"stamp":…,"value":…}
//
// The envelope repeats bucket and key, so that a file which was moved or
// copied to another key's place does not count.
const recordMagic = "strata-record-1 "

// headerLen is the length of the first line: magic, hash, newline.
const headerLen = len(recordMagic) + 2*sha256.Size + 1

// errDamaged says that a record's file is not as it was written.
var errDamaged = errors.New("damaged record")

type envelope struct {
	Bucket  string          `json:"bucket"`
	Key     string          `json:"key"`
	Refs    []Ref           `json:"refs,omitempty"`
	Created int64           `json:"created"`
	Stamp   Stamp           `json:"stamp"`
	Value   json.RawMessage `json:"value"`
}

func (e *envelope) created() time.Time { return time.Unix(0, e.Created) }

func encodeRecord(e *envelope) ([]byte, error) {
	body, err := json.Marshal(e)
	if err != nil {
		return nil, err
	}
	return sealed(body), nil
}

// sealed puts the line with the checksum before a record's body.
func sealed(body []byte) []byte {
	sum := sha256.Sum256(body)
	out := make([]byte, 0, headerLen+len(body))
	out = append(out, recordMagic...)
	out = hex.AppendEncode(out, sum[:])
	out = append(out, '\n')
	return append(out, body...)
}

// decodeRecord returns errDamaged for whatever encodeRecord did not write.
func decodeRecord(data []byte) (*envelope, error) {
	if len(data) < headerLen || !bytes.HasPrefix(data, []byte(recordMagic)) || data[headerLen-1] != '\n' {
		return nil, errDamaged
	}
	sum := sha256.Sum256(data[headerLen:])
	if hex.EncodeToString(sum[:]) != string(data[len(recordMagic):headerLen-1]) {
		return nil, errDamaged
	}
	var e envelope
	if err := json.Unmarshal(data[headerLen:], &e); err != nil {
		return nil, errDamaged
	}
	if ValidName(e.Bucket) != nil || !validText(e.Key) || checkRefs(e.Refs) != nil {
		return nil, errDamaged
	}
	return &e, nil
}
