package container

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"math/big"
	"regexp"
)

// newID makes a container's id, as docker's: 64 hex digits.
func newID() string {
	var b [32]byte
	rand.Read(b[:]) // never fails (crypto/rand)
	return hex.EncodeToString(b[:])
}

var (
	namePattern = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$`)
	idPattern   = regexp.MustCompile(`^[0-9a-f]{1,64}$`)
)

// checkName says what a name of a container or a volume may be.
func checkName(what, name string) error {
	if namePattern.MatchString(name) {
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
