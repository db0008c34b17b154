package imagecmd

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/strata-build/strata/cmd/strata/cli"
	"github.com/strata-build/strata/cmd/strata/output"
	"github.com/strata-build/strata/runtime/registry"
)

type searchOptions struct {
	limit   int
	filters []string
	format  string
	noTrunc bool
}

func (a *app) searchCommand() *cobra.Command {
	var o searchOptions
	cmd := &cobra.Command{
		Use:   "search [flags] TERM",
		Short: "Find repositories in a registry",
		Long: "Find repositories: in the catalog of a registry, if TERM begins with its host (registry.example/,\n" +
			"localhost:5000/web) or is one that registries.conf or a login speaks of; else in the registries\n" +
			"that registries.conf names for names without one (unqualified-search-registries); else on Docker\n" +
			"Hub.",
		Args: cli.Exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error { return a.search(cmd.Context(), o, args[0]) },
	}
	f := cmd.Flags()
	f.IntVar(&o.limit, "limit", 25, "most results of each registry")
	f.StringArrayVarP(&o.filters, "filter", "f", nil, "is-official=true, stars=NUMBER")
	f.StringVar(&o.format, "format", "", "table, json, or a Go template for each result")
	f.BoolVar(&o.noTrunc, "no-trunc", false, "print whole descriptions")
	return cmd
}

// searchRow is what --format can name.
type searchRow struct{ Description, IsAutomated, IsOfficial, Name, StarCount string }

var searchHeaders = map[string]string{
	"Description": "DESCRIPTION", "IsAutomated": "AUTOMATED", "IsOfficial": "OFFICIAL", "Name": "NAME", "StarCount": "STARS",
}

func (a *app) search(ctx context.Context, o searchOptions, term string) error {
	keep, err := parseSearchFilter(o.filters)
	if err != nil {
		return err
	}
	if o.limit < 1 || o.limit > 100 {
		return cli.Misuse("--limit %d: it is from 1 to 100", o.limit)
	}
	client, err := registry.New(a.RegistryOptions())
	if err != nil {
		return err
	}
	found, err := searchAll(ctx, client, o, term)
	l := output.Listing{Table: "{{.Name}}\t{{.Description}}\t{{.StarCount}}\t{{.IsOfficial}}", Headers: searchHeaders}
	for _, f := range found {
		if keep(f) {
			l.Rows = append(l.Rows, searchRowOf(f, o))
		}
	}
	if err != nil && len(found) == 0 {
		return err
	}
	return errors.Join(l.Print(a.Stdout, o.format), err)
}

// searchAll asks the registries that a term is for.
func searchAll(ctx context.Context, client *registry.Client, o searchOptions, term string) ([]registry.Found, error) {
	host, rest, ok := hostIn(term)
	if !ok && client.Knows(term) {
		host, rest, ok = term, "", true
	}
	if ok && !registry.IsHub(host) {
		found, err := client.SearchCatalog(ctx, host, rest)
		return found[:min(o.limit, len(found))], err
	}
	if ok {
		term = rest
	}
	var all []registry.Found
	var errs []error
	hosts := client.SearchRegistries()
	if len(hosts) == 0 {
		hosts = []string{""}
	}
	for _, host := range hosts {
		var found []registry.Found
		var err error
		if registry.IsHub(host) {
			found, err = client.SearchHub(ctx, term, o.limit)
		} else {
			found, err = client.SearchCatalog(ctx, host, term)
		}
		all = append(all, found[:min(o.limit, len(found))]...)
		errs = append(errs, err)
	}
	return all, errors.Join(errs...)
}

// hostIn tells a host at the beginning of a term, by docker's rule: it has a
// dot or a colon, or is localhost.
func hostIn(term string) (host, rest string, ok bool) {
	host, rest, slash := strings.Cut(term, "/")
	if strings.Contains(host, ":") || host == "localhost" || strings.Contains(host, ".") && slash {
		return host, rest, true
	}
	return "", term, false
}

func searchRowOf(f registry.Found, o searchOptions) searchRow {
	row := searchRow{Name: output.Plain(f.Name), Description: oneLine(output.Plain(f.Description)), StarCount: strconv.Itoa(f.Stars), IsAutomated: "false"}
	if f.Official {
		row.IsOfficial = "[OK]"
	}
	if !o.noTrunc {
		row.Description = output.Ellipsis(row.Description, commandWidth)
	}
	return row
}

// parseSearchFilter reads docker's filters.
func parseSearchFilter(filters []string) (func(registry.Found) bool, error) {
	var tests []func(registry.Found) bool
	for _, text := range filters {
		key, value, _ := strings.Cut(text, "=")
		switch key {
		case "is-official":
			want, err := strconv.ParseBool(value)
			if err != nil {
				return nil, cli.Misuse("--filter %s: it is true or false", text)
			}
			tests = append(tests, func(f registry.Found) bool { return f.Official == want })
		case "stars":
			n, err := strconv.Atoi(value)
			if err != nil {
				return nil, cli.Misuse("--filter %s: it is a number", text)
			}
			tests = append(tests, func(f registry.Found) bool { return f.Stars >= n })
		default:
			return nil, cli.Misuse("--filter %s: the filters are is-official and stars", text)
		}
	}
	return func(f registry.Found) bool {
		return !slices.ContainsFunc(tests, func(test func(registry.Found) bool) bool { return !test(f) })
	}, nil
}
