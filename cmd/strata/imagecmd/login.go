package imagecmd

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/distribution/reference"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/strata-build/strata/cmd/strata/cli"
	"github.com/strata-build/strata/runtime/registry"
)

type loginOptions struct {
	user, password string
	fromStdin      bool
}

func (a *app) loginCommand() *cobra.Command {
	var o loginOptions
	cmd := &cobra.Command{
		Use:   "login [flags] [SERVER]",
		Short: "Log in to a registry",
		Long: "Verify a user name and password with a registry, Docker Hub unless another is named, and keep\n" +
			"them where docker does: in the credential helper that docker's config.json names, or in that file.",
		Args: cli.AtMost(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.fromStdin && cmd.Flags().Changed("password") {
				return cli.Misuse("--password and --password-stdin exclude each other")
			}
			return a.login(cmd.Context(), o, args)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&o.user, "username", "u", "", "user name")
	f.StringVarP(&o.password, "password", "p", "", "password or token; others can see it in the list of processes")
	f.BoolVar(&o.fromStdin, "password-stdin", false, "read the password from standard input")
	return cmd
}

func (a *app) login(ctx context.Context, o loginOptions, args []string) error {
	host, err := serverOf(args)
	if err != nil {
		return err
	}
	client, err := registry.New(a.RegistryOptions())
	if err != nil {
		return err
	}
	cred, err := a.credentials(client, host, o)
	if err != nil {
		return err
	}
	if err := client.Login(ctx, host, cred.User, cred.Password); err != nil {
		return err
	}
	plain, err := registry.SaveCredentials(a.DockerConfig(), cred)
	if err != nil {
		return err
	}
	if plain {
		fmt.Fprintf(a.Stderr, "the password stands in %s, where anybody who reads the file can decode it: a credential helper (credsStore) would keep it safe\n", a.DockerConfig())
	}
	_, err = fmt.Fprintln(a.Stdout, "Login Succeeded")
	return err
}

// serverOf is the registry that an argument names.
func serverOf(args []string) (string, error) {
	if len(args) == 0 {
		return registry.HostOf(""), nil
	}
	host := registry.HostOf(args[0])
	if _, err := reference.ParseNormalizedNamed(host + "/x"); err != nil {
		return "", cli.Misuse("%q is not a registry: give HOST or HOST:PORT", args[0])
	}
	return host, nil
}

// credentials come from the flags, from what is kept, or from whoever sits at
// the terminal.
func (a *app) credentials(client *registry.Client, host string, o loginOptions) (registry.Credentials, error) {
	cred := registry.Credentials{Host: host, User: o.user, Password: o.password}
	switch {
	case o.fromStdin && o.user == "":
		return cred, cli.Misuse("--password-stdin needs a user name: give -u NAME")
	case o.fromStdin:
		return a.passwordFromStdin(cred)
	case o.user == "" && o.password == "":
		if kept, ok := client.StoredCredentials(host); ok {
			fmt.Fprintf(a.Stderr, "authenticating with the credentials that are kept for %s\n", kept.User)
			return kept, nil
		}
	}
	return a.ask(cred)
}

func (a *app) passwordFromStdin(cred registry.Credentials) (registry.Credentials, error) {
	data, err := io.ReadAll(io.LimitReader(a.Stdin, 1<<20))
	if err != nil {
		return cred, fmt.Errorf("read password: %w", err)
	}
	if cred.Password = strings.TrimRight(string(data), "\r\n"); cred.Password == "" {
		return cred, errors.New("the password on standard input is empty")
	}
	return cred, nil
}

// ask asks for what is missing.
func (a *app) ask(cred registry.Credentials) (registry.Credentials, error) {
	if cred.User != "" && cred.Password != "" {
		return cred, nil
	}
	in, ok := a.Stdin.(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return cred, cli.Misuse("there is no terminal to ask for the password: give -u NAME and --password-stdin")
	}
	if cred.User == "" {
		fmt.Fprint(a.Stderr, "Username: ")
		line, err := bufio.NewReader(in).ReadString('\n')
		if cred.User = strings.TrimSpace(line); err != nil || cred.User == "" {
			return cred, errors.Join(errors.New("a user name is needed"), err)
		}
	}
	if cred.Password == "" {
		fmt.Fprint(a.Stderr, "Password: ")
		data, err := term.ReadPassword(int(in.Fd()))
		fmt.Fprintln(a.Stderr)
		if cred.Password = string(data); err != nil || cred.Password == "" {
			return cred, errors.Join(errors.New("a password is needed"), err)
		}
	}
	return cred, nil
}

func (a *app) logoutCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "logout [SERVER]",
		Short: "Forget the login to a registry",
		Args:  cli.AtMost(1),
		RunE: func(_ *cobra.Command, args []string) error {
			host, err := serverOf(args)
			if err != nil {
				return err
			}
			there, err := registry.EraseCredentials(a.DockerConfig(), host)
			if err != nil {
				return err
			}
			if !there {
				_, err = fmt.Fprintf(a.Stdout, "Not logged in to %s\n", host)
				return err
			}
			_, err = fmt.Fprintf(a.Stdout, "Removing login credentials for %s\n", host)
			return err
		},
	}
}
