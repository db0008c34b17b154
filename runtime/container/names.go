package container

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"math/big"
	"strings"
)

// newID makes a container's id, as docker's: 64 hex digits.
func newID() string {
	var b [32]byte
	rand.Read(b[:]) // never fails (crypto/rand)
	return hex.EncodeToString(b[:])
}

// isID tells whether a text may be the beginning of an id.
func isID(text string) bool {
	return text != "" && len(text) <= 64 && strings.Trim(text, "0123456789abcdef") == ""
}

// isName tells whether a text can be a name.
func isName(text string) bool {
	for i, r := range text {
		letter := 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
		if !letter && (i == 0 || !strings.ContainsRune("_.-", r)) {
			return false
		}
	}
	return text != "" && len(text) <= 128
}

// checkName says what a name of a container or a volume may be.
func checkName(what, name string) error {
	if isName(name) {
		return nil
	}
	return fmt.Errorf("%s name %q is not possible: it takes 1 to 128 letters, digits, '_', '.' and '-', and begins with a letter or a digit", what, name)
}

// Names that nobody gave are a quality and a rock.
var (
	qualities = []string{
		"amber", "banded", "basal", "bright", "calm", "coarse", "crisp", "deep", "dense", "dry",
		"eager", "even", "fine", "firm", "folded", "gentle", "glossy", "grand", "hardy", "hidden",
		"keen", "layered", "light", "lively", "mellow", "molten", "noble", "old", "pale", "polished",
		"proud", "pure", "quiet", "rare", "rough", "rustic", "sharp", "silent", "solid", "steady",
		"strong", "sunny", "tidal", "tilted", "veined", "vivid", "warm", "wild", "wise", "young",
	}
	rocks = []string{
		"agate", "anthracite", "basalt", "breccia", "chalk", "chert", "clay", "coal", "diorite", "dolomite",
		"dunite", "flint", "gabbro", "gneiss", "granite", "gravel", "gypsum", "halite", "jasper", "lava",
		"limestone", "loam", "marble", "marl", "mica", "mudstone", "obsidian", "onyx", "opal", "pebble",
		"peridot", "pumice", "quartz", "rhyolite", "sand", "sandstone", "schist", "shale", "silt", "slate",
		"soapstone", "syenite", "talc", "topaz", "trachyte", "travertine", "tuff", "turf", "varve", "zircon",
	}
)

// randomName makes a name; taken tells of those in use.
func randomName(taken func(string) bool) string {
	for {
		name := pick(qualities) + "_" + pick(rocks)
		for suffix := 1; taken(name) && suffix < 10; suffix++ {
			name = fmt.Sprintf("%s%d", name, suffix)
		}
		if !taken(name) {
			return name
		}
	}
}

func pick(words []string) string {
	// Reading from crypto/rand never fails.
	i, _ := rand.Int(rand.Reader, big.NewInt(int64(len(words))))
	return words[i.Int64()]
}
