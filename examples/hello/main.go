// Command hello is the whole content of the example image.
package main

import "fmt"

func main() { fmt.Println("Hello from an image that Strata built.") }
