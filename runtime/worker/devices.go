package worker

import (
	"fmt"
	"slices"

	"github.com/strata-build/strata/runtime/cdi"
	"github.com/strata-build/strata/runtime/executor"
	"github.com/strata-build/strata/runtime/mount"
)

// AllDevices in Options.AllowDevices permits every device.
const AllDevices = "*"

// findDevices finds what the op asks for. One that is not required may be
// missing, as in BuildKit; one that is there has to be permitted.
func (o *execOp) findDevices() error {
	if len(o.op.CdiDevices) == 0 {
		return nil
	}
	known, err := cdi.Load(o.w.opt.DeviceDirs...)
	if err != nil {
		return err
	}
	for _, want := range o.op.CdiDevices {
		found := known.Find(want.GetName())
		if len(found) == 0 && !want.GetOptional() {
			return fmt.Errorf("the step asks for the device %s, which nothing in %q describes", want.GetName(), o.w.opt.DeviceDirs)
		}
		for _, d := range found {
			if err := o.permit(want.GetName(), d); err != nil {
				return err
			}
			if !slices.Contains(o.devices, d) {
				o.devices = append(o.devices, d)
			}
		}
	}
	return nil
}

// permit wants the user's word, or that of the device's own description.
func (o *execOp) permit(name string, d *cdi.Device) error {
	allowed := d.AutoAllow
	for _, word := range o.w.opt.AllowDevices {
		allowed = allowed || word == AllDevices || word == name || word == d.Name
	}
	if !allowed {
		return fmt.Errorf("the step asks for the device %s: allow it with --allow device=%s", d.Name, d.Name)
	}
	return d.Check()
}

// addDevices gives the step its devices.
func (r *execRun) addDevices(spec *executor.Spec) error {
	for _, d := range r.devices {
		spec.Env = append(spec.Env, d.Env...)
		spec.User.Groups = append(slices.Clip(spec.User.Groups), d.Groups...)
		for _, n := range d.Nodes {
			spec.Devices = append(spec.Devices, executor.Device{Source: n.Source, Target: n.Target})
		}
		for _, m := range d.Mounts {
			if err := r.addDeviceMount(spec, m); err != nil {
				return fmt.Errorf("device %s: %w", d.Name, err)
			}
		}
	}
	return nil
}

func (r *execRun) addDeviceMount(spec *executor.Spec, m cdi.Mount) error {
	f, err := openPath(m.Source)
	if err != nil {
		return err
	}
	defer f.Close()
	bound, err := mount.Bind(f, mount.BindOptions{Recursive: true, ReadOnly: m.ReadOnly})
	if err != nil {
		return err
	}
	r.undo.Add(bound.Close)
	spec.Mounts = append(spec.Mounts, executor.Mount{Target: m.Target, Source: bound, ReadOnly: m.ReadOnly})
	return nil
}
