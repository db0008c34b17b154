package worker

import (
	"fmt"
	"maps"
	"slices"

	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/apicaps"
)

// unsupported are the capabilities of LLB v0.33.1 that a definition may ask
// for and that this worker does not have.
var unsupported = map[apicaps.CapID]string{
	pb.CapBuildOpLLBFileName:        "nested builds",
	pb.CapExecMetaNetworkProxy:      "the proxy network mode",
	pb.CapSourceMetadataTransfer:    "metadata-only transfer of local sources",
	pb.CapSourceImageBlob:           "image blobs as sources",
	pb.CapSourceGitSignatureVerify:  "signature checks of git sources",
	pb.CapSourceGitBundle:           "git bundles",
	pb.CapSourceGitCheckoutBundle:   "git bundles",
	pb.CapSourceHTTPSignatureVerify: "signature checks of http sources",
	pb.CapPassthroughOp:             "passthrough operations",
}

// checkCaps refuses an op that needs a capability which is not here. One that
// BuildKit v0.33.1 does not know is not known here either.
func checkCaps(known apicaps.CapSet, meta *pb.OpMetadata) error {
	for _, name := range slices.Sorted(maps.Keys(meta.GetCaps())) {
		if !meta.Caps[name] {
			continue
		}
		if what, bad := unsupported[apicaps.CapID(name)]; bad {
			return fmt.Errorf("this build needs %s (capability %s), which strata does not support", what, name)
		}
		if err := known.Supports(apicaps.CapID(name)); err != nil {
			return fmt.Errorf("this build needs the capability %q, which this version of strata does not know", name)
		}
	}
	return nil
}
