package schema

import (
	"fmt"
	"reflect"
	"strings"
)

// dump prints what is set in a Spec, one field a line. An *Image that was
// printed before is shown by its path only.
func dump(spec *Spec, dir string) string {
	d := &dumper{dir: dir, seen: map[*Image]bool{}}
	for _, img := range spec.Images {
		d.line(0, "image %s", img.Path)
		d.image(1, img)
	}
	return strings.ReplaceAll(d.String(), dir, "$DIR")
}

type dumper struct {
	strings.Builder
	dir  string
	seen map[*Image]bool
}

func (d *dumper) line(depth int, format string, args ...any) {
	d.WriteString(strings.Repeat("  ", depth) + fmt.Sprintf(format, args...) + "\n")
}

func (d *dumper) image(depth int, img *Image) {
	if d.seen[img] {
		d.line(depth, "(above)")
		return
	}
	d.seen[img] = true
	d.value(depth, reflect.ValueOf(*img))
}

// value prints the fields of a struct.
func (d *dumper) value(depth int, v reflect.Value) {
	t := v.Type()
	for i := range t.NumField() {
		f := v.Field(i)
		if f.IsZero() || f.Kind() == reflect.Map || !t.Field(i).IsExported() {
			continue
		}
		d.field(depth, t.Field(i).Name, f)
	}
}

func (d *dumper) field(depth int, name string, f reflect.Value) {
	switch x := f.Interface().(type) {
	case Position:
		d.line(depth, "%s: %s", name, x)
		return
	case *Image:
		d.line(depth, "%s: image %s %s", name, x.Package, x.Path)
		d.image(depth+1, x)
		return
	}
	switch f.Kind() {
	case reflect.Pointer:
		d.field(depth, name, f.Elem())
	case reflect.Struct:
		d.line(depth, "%s:", name)
		d.value(depth+1, f)
	case reflect.Slice:
		d.slice(depth, name, f)
	case reflect.String:
		d.line(depth, "%s: %q", name, f.String())
	default:
		d.line(depth, "%s: %v", name, f.Interface())
	}
}

func (d *dumper) slice(depth int, name string, f reflect.Value) {
	if f.Type().Elem().Kind() == reflect.String {
		d.line(depth, "%s: %q", name, f.Interface())
		return
	}
	for i := range f.Len() {
		d.field(depth, fmt.Sprintf("%s[%d]", name, i), f.Index(i))
	}
	if f.Len() == 0 {
		d.line(depth, "%s: []", name)
	}
}
