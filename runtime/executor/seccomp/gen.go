//go:build ignore

// Gen writes syscalls.txt from the tables of golang.org/x/sys.
package main

import (
	"bytes"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

func main() {
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "golang.org/x/sys").Output()
	if err != nil {
		log.Fatal(err)
	}
	arches := []string{"amd64", "386", "arm64", "arm"}
	numbers := map[string][]string{}
	line := regexp.MustCompile(`(?m)^\s+SYS_(\w+)\s+= (\d+)`)
	for i, arch := range arches {
		text, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "unix", "zsysnum_linux_"+arch+".go"))
		if err != nil {
			log.Fatal(err)
		}
		for _, m := range line.FindAllStringSubmatch(string(text), -1) {
			name := strings.ToLower(m[1])
			if numbers[name] == nil {
				numbers[name] = []string{"-", "-", "-", "-"}
			}
			numbers[name][i] = m[2]
		}
	}
	// What those tables lack: the private calls of ARM, and a second name.
	for name, number := range map[string]string{"breakpoint": "983041", "cacheflush": "983042", "set_tls": "983045"} {
		numbers[name] = []string{"-", "-", "-", number}
	}
	numbers["sync_file_range2"] = numbers["arm_sync_file_range"]

	var names []string
	for name := range numbers {
		names = append(names, name)
	}
	slices.Sort(names)
	var out bytes.Buffer
	fmt.Fprintln(&out, "# Made by gen.go: name, and number on", strings.Join(arches, ", "))
	for _, name := range names {
		fmt.Fprintln(&out, name, strings.Join(numbers[name], " "))
	}
	if err := os.WriteFile("syscalls.txt", out.Bytes(), 0o644); err != nil {
		log.Fatal(err)
	}
}
