package cli

import (
	"fmt"
	"math"

	"github.com/docker/go-units"
)

// ByteSize is a size as docker writes it: 64m, 1.5GiB, 1024.
type ByteSize int64

// Set implements pflag.Value.
func (b *ByteSize) Set(text string) error {
	n, err := units.RAMInBytes(text)
	if err != nil {
		return fmt.Errorf("%q is no size such as 64m or 2g", text)
	}
	if n < 0 || n == math.MaxInt64 {
		return fmt.Errorf("%q is more than a size can be", text)
	}
	*b = ByteSize(n)
	return nil
}

// String implements pflag.Value.
func (b *ByteSize) String() string {
	if *b == 0 {
		return ""
	}
	return units.BytesSize(float64(*b))
}

// Type implements pflag.Value.
func (*ByteSize) Type() string { return "bytes" }
