package store

import (
	"bytes"
	"encoding/json"
	"testing"
)

// FuzzDecodeRecord: whatever a file holds, decoding does not panic, and what
// it accepts is what encoding gives.
func FuzzDecodeRecord(f *testing.F) {
	good, err := encodeRecord(&envelope{
		Bucket: "b", Key: "k", Refs: []Ref{"layer:l"}, Created: 1, Stamp: "boot.1", Value: json.RawMessage(`{"a":1}`),
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:len(good)-1])
	f.Add([]byte(recordMagic))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		checkDecode(t, data)
		// With a right checksum the rest of the decoder is reached, too.
		checkDecode(t, sealed(data))
	})
}

func checkDecode(t *testing.T, data []byte) {
	e, err := decodeRecord(data)
	if err != nil {
		return
	}
	again, err := encodeRecord(e)
	if err != nil {
		t.Fatalf("encode what was decoded: %v", err)
	}
	e2, err := decodeRecord(again)
	if err != nil {
		t.Fatalf("decode it again: %v", err)
	}
	if e.Bucket != e2.Bucket || e.Key != e2.Key || e.Stamp != e2.Stamp || len(e.Refs) != len(e2.Refs) {
		t.Errorf("%+v became %+v", e, e2)
	}
	var a, b bytes.Buffer
	if json.Compact(&a, e.Value) == nil && json.Compact(&b, e2.Value) == nil && a.Len() == 0 != (b.Len() == 0) {
		t.Errorf("value %s became %s", e.Value, e2.Value)
	}
}
