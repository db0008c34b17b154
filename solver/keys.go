package solver

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"

	digest "github.com/opencontainers/go-digest"
)

// The domains keep keys of different meaning apart, and this version's keys
// from those of a version that derives them in another way.
const (
	definitionDomain = "strata.definition.v1"
	contentDomain    = "strata.content.v1"
)

// keySize is room for the parts of most keys.
const keySize = 512

// definitionSum is the key of a vertex by what it is made from: its op key,
// and of each input, in order, the definition key and the output index.
func definitionSum(n *node) [sha256.Size]byte {
	k := make([]byte, 0, keySize)
	k = appendPart(k, definitionDomain)
	k = appendPart(k, string(n.key.Digest))
	for i, in := range n.inputs {
		k = append(k, in.sum[:]...)
		k = strconv.AppendInt(k, int64(n.v.Inputs[i].Output), 10)
		k = append(k, ';')
	}
	return sha256.Sum256(k)
}

// contentKey is the key of a vertex by what its inputs hold: its op key, and
// of each input, in order, the content digest as the op sees it.
func contentKey(op digest.Digest, inputs []digest.Digest) digest.Digest {
	k := make([]byte, 0, keySize)
	k = appendPart(k, contentDomain)
	k = appendPart(k, string(op))
	for _, in := range inputs {
		k = appendPart(k, string(in))
	}
	return digestOf(sha256.Sum256(k))
}

// appendPart adds a part to a key, with its length in front, so that no two
// lists of parts look alike.
func appendPart(key []byte, part string) []byte {
	key = strconv.AppendInt(key, int64(len(part)), 10)
	key = append(key, ':')
	return append(key, part...)
}

// digestOf writes a sum as a digest.
func digestOf(sum [sha256.Size]byte) digest.Digest {
	const prefix = "sha256:"
	var text [len(prefix) + 2*sha256.Size]byte
	copy(text[:], prefix)
	hex.Encode(text[len(prefix):], sum[:])
	return digest.Digest(text[:])
}
