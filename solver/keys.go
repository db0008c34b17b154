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

// definitionKey is the key of a vertex by what it is made from: its op key,
// and of each input, in order, the definition key and the output index.
func definitionKey(n *node) digest.Digest {
	k := newKey(definitionDomain, n.key.Digest)
	for i, in := range n.inputs {
		k.add(string(in.definition))
		k.add(strconv.Itoa(n.v.Inputs[i].Output))
	}
	return k.sum()
}

// contentKey is the key of a vertex by what its inputs hold: its op key, and
// of each input, in order, the content digest as the op sees it.
func contentKey(op digest.Digest, inputs []digest.Digest) digest.Digest {
	k := newKey(contentDomain, op)
	for _, in := range inputs {
		k.add(string(in))
	}
	return k.sum()
}

// keyBuffer collects the parts of a key, each with its length in front, so
// that no two lists of parts look alike.
type keyBuffer []byte

func newKey(domain string, op digest.Digest) *keyBuffer {
	k := make(keyBuffer, 0, 256)
	k.add(domain)
	k.add(string(op))
	return &k
}

func (k *keyBuffer) add(part string) {
	*k = strconv.AppendInt(*k, int64(len(part)), 10)
	*k = append(*k, ':')
	*k = append(*k, part...)
}

func (k *keyBuffer) sum() digest.Digest {
	sum := sha256.Sum256(*k)
	return digest.NewDigestFromEncoded(digest.SHA256, hex.EncodeToString(sum[:]))
}
