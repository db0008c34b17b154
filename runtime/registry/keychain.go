package registry

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"

	"github.com/docker/cli/cli/config"
	"github.com/docker/cli/cli/config/configfile"
	"github.com/docker/cli/cli/config/types"
	"github.com/google/go-containerregistry/pkg/authn"
)

// keychain finds credentials in docker config.json files and the credential
// helpers they name. It remembers every secret it handed out, so that none of
// them can appear in a message.
type keychain struct {
	files []*configfile.ConfigFile

	mu      sync.Mutex
	found   map[string]credential // by host and by host/path
	secrets []string
}

// credential is the outcome of one look-up.
type credential struct {
	auth    authn.AuthConfig
	failure string // why a helper gave nothing
}

func newKeychain(paths []string) (*keychain, error) {
	k := &keychain{found: map[string]credential{}}
	for _, path := range paths {
		file, err := readConfig(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		k.files = append(k.files, file)
	}
	return k, nil
}

func readConfig(path string) (*configfile.ConfigFile, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read registry credentials: %w", err)
	}
	if len(bytes.TrimSpace(data)) == 0 {
		data = []byte("{}")
	}
	file, err := config.LoadFromReader(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("read registry credentials in %s: %w", path, err)
	}
	file.Filename = path
	return file, nil
}

// authenticator returns the credentials for a repository; anonymous if there
// are none. A helper that fails is not an error yet: most pulls need no
// credentials. It is told when the registry refuses.
func (k *keychain) authenticator(ep endpoint) authn.Authenticator {
	cred := k.lookup(ep)
	if cred.auth == (authn.AuthConfig{}) {
		return authn.Anonymous
	}
	return authn.FromConfig(cred.auth)
}

func (k *keychain) lookup(ep endpoint) credential {
	k.mu.Lock()
	defer k.mu.Unlock()
	if auth, ok := k.scoped(ep); ok {
		k.remember(auth)
		return credential{auth: auth}
	}
	if cred, ok := k.found[ep.host]; ok {
		return cred
	}
	cred := k.ask(ep.host)
	k.remember(cred.auth)
	k.found[ep.host] = cred
	return cred
}

// scoped finds credentials saved for a part of a registry ("quay.io/team"), as
// podman keeps them.
func (k *keychain) scoped(ep endpoint) (authn.AuthConfig, bool) {
	for path := ep.String(); strings.Contains(path, "/"); path = path[:strings.LastIndexByte(path, '/')] {
		for _, file := range k.files {
			if saved, ok := file.AuthConfigs[path]; ok && saved.Username+saved.IdentityToken+saved.RegistryToken != "" {
				return fromDocker(saved), true
			}
		}
	}
	return authn.AuthConfig{}, false
}

// ask looks in each file, and runs its helper for the host.
func (k *keychain) ask(host string) credential {
	var failed string
	for _, file := range k.files {
		for _, key := range hostKeys(host) {
			saved, err := file.GetAuthConfig(key)
			if err != nil {
				failed = oneLine(fmt.Sprintf("credential helper named in %s: %v", file.Filename, err))
				continue
			}
			if auth := fromDocker(saved); auth != (authn.AuthConfig{}) {
				return credential{auth: auth}
			}
		}
	}
	return credential{failure: failed}
}

// hostKeys are the names a host's login may be kept under.
func hostKeys(host string) []string {
	if host == hubHost {
		return []string{authn.DefaultAuthKey, hubName}
	}
	return []string{host}
}

func fromDocker(saved types.AuthConfig) authn.AuthConfig {
	return authn.AuthConfig{
		Username:      saved.Username,
		Password:      saved.Password,
		Auth:          saved.Auth,
		IdentityToken: saved.IdentityToken,
		RegistryToken: saved.RegistryToken,
	}
}

func (k *keychain) remember(auth authn.AuthConfig) {
	basic := ""
	if auth.Password != "" {
		basic = base64.StdEncoding.EncodeToString([]byte(auth.Username + ":" + auth.Password))
	}
	for _, secret := range []string{auth.Password, auth.Auth, auth.IdentityToken, auth.RegistryToken, basic} {
		if secret != "" {
			k.secrets = append(k.secrets, secret)
		}
	}
}

// use takes credentials that were given by hand in the place of saved ones.
func (k *keychain) use(host string, auth authn.AuthConfig) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.remember(auth)
	k.found[host] = credential{auth: auth}
}

// scrub replaces every secret that was handed out.
func (k *keychain) scrub(text string) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, secret := range k.secrets {
		text = strings.ReplaceAll(text, secret, "***")
	}
	return text
}

func (k *keychain) helperFailure(host string) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.found[host].failure
}

func (k *keychain) user(host string) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.found[host].auth.Username
}

// Credentials is what a login saves for a host.
type Credentials struct {
	Host, User, Password string
}

// SaveCredentials keeps a login in a docker config.json, or in the credential
// helper that the file names. The file is made if need be, readable by its
// owner only. It returns true when the password stands in the file itself,
// where anybody who reads it can decode it.
func SaveCredentials(configPath string, cred Credentials) (plain bool, err error) {
	file, err := openConfig(configPath)
	if err != nil {
		return false, err
	}
	key := credentialKey(cred.Host)
	auth := types.AuthConfig{Username: cred.User, Password: cred.Password, ServerAddress: key}
	plain = file.CredentialsStore == "" && file.CredentialHelpers[key] == ""
	if plain {
		// The library's own file store writes a warning to standard error.
		file.AuthConfigs[key] = auth
		err = file.Save()
	} else {
		err = file.GetCredentialsStore(key).Store(auth)
	}
	if err != nil {
		return false, fmt.Errorf("save credentials of %s in %s: %w", cred.Host, configPath, err)
	}
	return plain, nil
}

// EraseCredentials removes a login; it returns false if there was none.
func EraseCredentials(configPath, host string) (bool, error) {
	file, err := openConfig(configPath)
	if err != nil {
		return false, err
	}
	key := credentialKey(host)
	kept := file.GetCredentialsStore(key)
	if saved, err := kept.Get(key); err == nil && fromDocker(saved) == (authn.AuthConfig{}) {
		return false, nil
	}
	if err := kept.Erase(key); err != nil {
		return false, fmt.Errorf("remove credentials of %s from %s: %w", host, configPath, err)
	}
	return true, nil
}

func openConfig(path string) (*configfile.ConfigFile, error) {
	file, err := readConfig(path)
	if errors.Is(err, fs.ErrNotExist) {
		return configfile.New(path), nil
	}
	return file, err
}

// credentialKey is the name under which docker keeps a host's login.
func credentialKey(host string) string {
	if host = hostOf(host); host == hubName {
		return authn.DefaultAuthKey
	}
	return host
}
