package containercmd

import "github.com/strata-build/strata/cmd/strata/cli"

// swapSize is a cli.ByteSize, or -1 for no limit.
type swapSize int64

// Set implements pflag.Value.
func (s *swapSize) Set(text string) error {
	if text == "-1" {
		*s = -1
		return nil
	}
	return (*cli.ByteSize)(s).Set(text)
}

// String implements pflag.Value.
func (s *swapSize) String() string {
	if *s == -1 {
		return "-1"
	}
	return (*cli.ByteSize)(s).String()
}

// Type implements pflag.Value.
func (*swapSize) Type() string { return "bytes" }
