package containercmd

import (
	"context"
	"strconv"

	"github.com/strata-build/strata/cmd/strata/output"
	"github.com/strata-build/strata/runtime/container"
	"github.com/strata-build/strata/runtime/engine"
	"github.com/strata-build/strata/runtime/snapshot"
	"github.com/strata-build/strata/runtime/store"
)

// Owned are the objects of a store that belong to containers and volumes.
type Owned struct {
	Containers, Volumes output.Listing
	// names are the containers' by object.
	Names map[store.Ref]string
}

// The tables are those of `docker system df -v`.
const (
	duContainerTable = "{{.ID}}\t{{.Image}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.CreatedSince}}\t{{.Status}}\t{{.Names}}"
	duVolumeTable    = "{{.Name}}\t{{.Links}}\t{{.Size}}"
)

// duContainerRow is a row of `ps`, with the number of volumes.
type duContainerRow struct {
	containerRow
	LocalVolumes string
}

// Objects describes the containers and volumes of a store by what it
// holds.
func Objects(ctx context.Context, e *engine.Engine, usage store.Usage) (Owned, error) {
	s := container.New(e)
	o := Owned{
		Containers: output.Listing{Table: duContainerTable, Headers: duContainerRow{containerHeadings.containerRow, "LOCAL VOLUMES"}},
		Volumes:    output.Listing{Table: duVolumeTable, Headers: volumeHeadings}, Names: map[store.Ref]string{},
	}
	sizes := map[store.Ref]int64{}
	for _, item := range usage.Items {
		sizes[item.Ref] = item.Size
	}
	all, err := s.List(ctx)
	for i := range all {
		rec := &all[i]
		parts := []store.Ref{snapshot.KeptRef(rec.ID), engine.ContainerPrefix + store.Ref(rec.ID), store.RecordRef(engine.BucketContainers, rec.ID)}
		for _, ref := range parts {
			o.Names[ref] = rec.Name
		}
		row := duContainerRow{describeRow(rec, false), strconv.Itoa(countVolumes(rec))}
		row.Size = output.Size(sizes[parts[0]] + sizes[parts[1]])
		o.Containers.Rows = append(o.Containers.Rows, row)
	}
	if err != nil {
		return o, err
	}
	volumes, err := s.Volumes()
	for _, v := range volumes {
		row, err := rowOfVolume(s, v)
		if err != nil {
			return o, err
		}
		row.Size = output.Size(sizes[engine.VolumePrefix+store.Ref(v.Name)])
		o.Volumes.Rows = append(o.Volumes.Rows, row)
	}
	return o, err
}

func countVolumes(rec *container.Record) int {
	n := 0
	for _, m := range rec.Config.Mounts {
		if m.Type == container.MountVolume {
			n++
		}
	}
	return n
}
