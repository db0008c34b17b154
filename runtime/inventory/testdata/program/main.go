// Command program is a Go program with one dependency, for the test to read.
package main

import "github.com/opencontainers/go-digest"

func main() { println(digest.FromString("").String()) }
