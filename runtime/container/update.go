package container

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/strata-build/strata/runtime/cgroup"
)

// UpdateRequest says what to change about a container.
type UpdateRequest struct {
	ID string
	// Resources are the new limits; a zero field stays as it is.
	Resources cgroup.Resources
	// Restart is the new policy, or nil.
	Restart *Restart
}

// Update changes the limits and the restart policy of a container, whether it
// runs or not.
func (s *Set) Update(ctx context.Context, req UpdateRequest) error {
	_, err := s.update(ctx, req.ID, func(rec *Record) error {
		if req.Restart != nil {
			if rec.Config.AutoRemove && req.Restart.Policy != RestartNo {
				return fmt.Errorf("%s is removed when it has ended (--rm): it cannot be started again", rec.Name)
			}
			rec.Config.Restart = *req.Restart
		}
		if req.Resources.IsZero() {
			return nil
		}
		limits := overlayResources(rec.Config.Resources, req.Resources)
		if limits.MemorySwap > 0 && limits.MemorySwap < limits.Memory {
			return fmt.Errorf("%s: its limit of memory and swap would be below that of memory: change --memory-swap too", rec.Name)
		}
		rec.Config.Resources = limits
		return s.apply(rec, limits)
	})
	return err
}

// overlayResources are the old limits but for those that are new.
func overlayResources(old, changed cgroup.Resources) cgroup.Resources {
	return cgroup.Resources{
		Memory: cmp.Or(changed.Memory, old.Memory), MemorySwap: cmp.Or(changed.MemorySwap, old.MemorySwap),
		CPUQuota: cmp.Or(changed.CPUQuota, old.CPUQuota), CPUPeriod: cmp.Or(changed.CPUPeriod, old.CPUPeriod),
		CPUShares:  cmp.Or(changed.CPUShares, old.CPUShares),
		CPUSetCPUs: cmp.Or(changed.CPUSetCPUs, old.CPUSetCPUs), CPUSetMems: cmp.Or(changed.CPUSetMems, old.CPUSetMems),
		Pids: cmp.Or(changed.Pids, old.Pids),
	}
}

// apply gives a running container its new limits.
func (s *Set) apply(rec *Record, limits cgroup.Resources) error {
	if rec.State.Status != Running || !s.held(rec.ID) {
		return nil // it gets them when it starts
	}
	group, err := s.group(rec)
	if err != nil {
		return err
	}
	if group == nil {
		return fmt.Errorf("container %s runs without a control group: it cannot be limited", rec.Name)
	}
	if err := errors.Join(group.Update(limits), group.Close()); err != nil {
		return fmt.Errorf("limit container %s: %w", rec.Name, err)
	}
	return nil
}
