package imagecmd

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/strata-build/strata/cmd/strata/cli"
	"github.com/strata-build/strata/cmd/strata/output"
	"github.com/strata-build/strata/runtime/osv"
)

type scanOptions struct {
	database, platform, format string
	severities, ignore         []string
	exitCode                   int
	fixedOnly                  bool
}

func (a *app) scanCommand() *cobra.Command {
	var o scanOptions
	cmd := &cobra.Command{
		Use:   "scan IMAGE --db DIR",
		Short: "List the known vulnerabilities of what is installed in an image",
		Long: "List the known vulnerabilities of what is installed in an image, the most severe first, according\n" +
			"to a folder of OSV advisories: *.json files, or *.zip as osv.dev publishes them. Nothing is fetched.",
		Args: cli.Exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error { return a.scan(cmd.Context(), o, args[0]) },
	}
	f := cmd.Flags()
	f.StringVar(&o.database, "db", "", "folder of OSV advisories (required)")
	f.StringSliceVar(&o.severities, "severity", nil, "severities that count, such as HIGH,CRITICAL (default all)")
	f.BoolVar(&o.fixedOnly, "ignore-unfixed", false, "leave out what no version fixes")
	f.StringSliceVar(&o.ignore, "ignore", nil, "vulnerabilities that do not count: names, or a file with one on each line")
	f.IntVar(&o.exitCode, "exit-code", 0, "exit code when something is found")
	f.StringVar(&o.format, "format", "table", "table or json")
	addImagePlatform(cmd, &o.platform)
	return cmd
}

func (a *app) scan(ctx context.Context, o scanOptions, ref string) error {
	filter, err := o.filter()
	if err != nil {
		return err
	}
	found, err := a.installed(ctx, ref, o.platform)
	if err != nil {
		return err
	}
	report, err := osv.Scan(ctx, o.database, found.packages.Packages)
	if err != nil {
		return err
	}
	findings := filter.Apply(report.Findings)
	if o.format == output.JSON {
		err = a.writeFindings(found, findings)
	} else {
		err = tableOfFindings(a.Stdout, findings)
	}
	if err != nil {
		return err
	}
	a.summarise(report, findings)
	if len(findings) > 0 && o.exitCode != 0 {
		return &cli.ExitError{Code: o.exitCode}
	}
	return nil
}

// filter checks the flags.
func (o scanOptions) filter() (osv.Filter, error) {
	filter := osv.Filter{FixedOnly: o.fixedOnly}
	switch {
	case o.database == "":
		return filter, cli.Misuse("give the folder of OSV advisories: --db DIR; https://osv.dev publishes one for each ecosystem")
	case o.format != "table" && o.format != output.JSON:
		return filter, cli.Misuse("--format %s is not known: it takes table or json", o.format)
	case o.exitCode < 0 || o.exitCode > 255:
		return filter, cli.Misuse("--exit-code %d: exit codes go from 0 to 255", o.exitCode)
	}
	for _, name := range o.severities {
		severity, err := osv.ParseSeverity(strings.TrimSpace(name))
		if err != nil {
			return filter, cli.Misuse("--severity: %v", err)
		}
		filter.Severities = append(filter.Severities, severity)
	}
	var err error
	filter.Ignored, err = ignoredIDs(o.ignore)
	return filter, err
}

// isID tells names of vulnerabilities, CVE-2024-1234 or GHSA-…, from paths.
func isID(text string) bool {
	kind, rest, ok := strings.Cut(text, "-")
	return ok && kind != "" && rest != "" && !strings.ContainsAny(text, "/ ")
}

// ignoredIDs reads --ignore: what is no file must be a name.
func ignoredIDs(values []string) ([]string, error) {
	var ids []string
	for _, value := range values {
		data, err := os.ReadFile(value)
		switch {
		case err == nil:
			ids = append(ids, linesOf(string(data))...)
		case !errors.Is(err, fs.ErrNotExist):
			return nil, fmt.Errorf("read --ignore: %w", err)
		case !isID(value):
			return nil, cli.Misuse("--ignore %s: there is no such file, and it is no name of a vulnerability", value)
		default:
			ids = append(ids, value)
		}
	}
	return ids, nil
}

// linesOf leaves out comments.
func linesOf(text string) []string {
	var lines []string
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	return lines
}

// scanReport is the form for machines.
type scanReport struct {
	Image    string        `json:"image"`
	Digest   string        `json:"digest"`
	Platform string        `json:"platform"`
	Findings []osv.Finding `json:"findings"`
}

func (a *app) writeFindings(found installed, findings []osv.Finding) error {
	out := json.NewEncoder(a.Stdout)
	out.SetIndent("", "  ")
	out.SetEscapeHTML(false)
	return out.Encode(scanReport{found.image.Repository, found.image.Digest.String(), found.image.Platform, findings})
}

// summaryWidth keeps a line of the table on most screens.
const summaryWidth = 60

func tableOfFindings(w io.Writer, findings []osv.Finding) error {
	if len(findings) == 0 {
		return nil
	}
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "SEVERITY\tPACKAGE\tINSTALLED\tFIXED IN\tVULNERABILITY\tSUMMARY")
	for _, f := range findings {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", f.Severity, f.Package, f.Installed,
			cell(strings.Join(f.Fixed, ", ")), cell(f.ID), cell(output.Ellipsis(f.Summary, summaryWidth)))
	}
	return t.Flush()
}

// cell is the database's text in the table.
func cell(text string) string { return cmp.Or(output.Plain(text), "-") }

// summarise tells what was compared with what, and what could not be.
func (a *app) summarise(report osv.Report, findings []osv.Finding) {
	for _, w := range report.Warnings {
		fmt.Fprintf(a.Stderr, "warning: %s\n", output.Plain(w))
	}
	advisories := "1 advisory"
	if report.Advisories != 1 {
		advisories = fmt.Sprintf("%d advisories", report.Advisories)
	}
	fmt.Fprintf(a.Stderr, "%s in %s, by %s\n", countFindings(findings), output.Plural(report.Packages, "package"), advisories)
	if report.Unchecked > 0 {
		fmt.Fprintf(a.Stderr, "not looked up: %d, of which OSV does not know the distribution, or which have no version\n", report.Unchecked)
	}
}

// countFindings is "3 vulnerabilities (1 CRITICAL, 2 LOW)".
func countFindings(findings []osv.Finding) string {
	counts := map[string]int{}
	for _, f := range findings {
		counts[f.Severity.String()]++
	}
	var parts []string
	for _, name := range slices.Backward(osv.SeverityNames()) {
		if counts[name] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", counts[name], name))
		}
	}
	switch len(findings) {
	case 0:
		return "no vulnerabilities"
	case 1:
		return "1 vulnerability (" + parts[0] + ")"
	}
	return fmt.Sprintf("%d vulnerabilities (%s)", len(findings), strings.Join(parts, ", "))
}
