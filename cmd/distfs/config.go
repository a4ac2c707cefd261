package main

import (
	"bytes"
	"errors"
	"fmt"
	iofs "io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"distfs/fetch"
	"distfs/locator"

	"github.com/pelletier/go-toml/v2"
	"github.com/spf13/pflag"
)

// A config is a configuration file: the flags of all commands under their
// names with _ for -, and a table for each host.
//
//	tag_ttl = "5m"
//	[host."images.test"]
//	layouts = "../images"
//	[host."docker.io"]
//	mirrors = ["mirror.test:5000", "https://harbor.test/v2/hub"]
//	ca = "mirror.pem"
type config struct {
	name  string         // of the file, for messages
	flags map[string]any // by key, as TOML has them
	hosts locator.Hosts
}

// A hostTable is what a file says of one host.
type hostTable struct {
	Layouts   string   `toml:"layouts"` // this and all files: relative to the file's folder
	PlainHTTP bool     `toml:"plain_http"`
	Mirrors   []string `toml:"mirrors"`
	CA        any      `toml:"ca"`     // a file, or a list of files
	Client    any      `toml:"client"` // as containerd has it
}

// configFiles reads the file that --config names, else the user's and then
// that of all users, as far as they are there. What comes first is valid.
func (p *program) configFiles() ([]*config, error) {
	known := p.keys()
	if p.flags.config != "" {
		c, err := readConfig(p.flags.config, known)
		if err != nil {
			return nil, err
		}
		return []*config{c}, nil
	}
	var files []*config
	for _, dir := range p.configDirs() {
		c, err := readConfig(filepath.Join(dir, "config.toml"), known)
		if errors.Is(err, iofs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		files = append(files, c)
	}
	return files, nil
}

// configDirs are the folders that may have a configuration.
func (p *program) configDirs() []string {
	if dir, err := os.UserConfigDir(); err == nil {
		return []string{filepath.Join(dir, "distfs"), p.etc}
	}
	return []string{p.etc}
}

// certsDirs are the folders where containerd's hosts.toml may be: beside each
// configuration that is looked for, and containerd's own; or the one that was
// named.
func (p *program) certsDirs() []string {
	if p.flags.certsDir != "" {
		return []string{p.flags.certsDir}
	}
	dirs := p.configDirs()
	if p.flags.config != "" {
		dirs = []string{filepath.Dir(p.flags.config), p.etc}
	}
	dirs = append(dirs, filepath.Join(filepath.Dir(p.etc), "containerd"))
	for i := range dirs {
		dirs[i] = filepath.Join(dirs[i], "certs.d")
	}
	return dirs
}

// keys returns the flags of all commands, by their keys in a file. Their
// values are not the program's.
func (p *program) keys() map[string]*pflag.Flag {
	known := make(map[string]*pflag.Flag)
	add := func(f *pflag.Flag) {
		if f.Name != "help" && f.Name != "config" {
			known[key(f.Name)] = f
		}
	}
	root := (&program{stdout: p.stdout, stderr: p.stderr}).root()
	root.PersistentFlags().VisitAll(add)
	for _, c := range root.Commands() {
		c.Flags().VisitAll(add)
	}
	return known
}

// readConfig reads one file and checks all of it, also what other commands
// than the present one use.
func readConfig(name string, known map[string]*pflag.Flag) (*config, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	c := &config{name: name, flags: make(map[string]any), hosts: make(locator.Hosts)}
	tables, err := c.decode(b, known)
	if err != nil {
		return nil, err
	}
	for _, k := range slices.Sorted(maps.Keys(c.flags)) {
		value, _, _ := c.value(known[k])
		_, list := c.flags[k].([]any)
		_, wanted := known[k].Value.(*mountOptions)
		if value == "" || list && !wanted {
			return nil, fmt.Errorf("%s:%d: %s: no value for it: %v", name, lineOf(b, k), k, c.flags[k])
		}
		if err := known[k].Value.Set(value); err != nil {
			return nil, fmt.Errorf("%s:%d: %s: %q: %w", name, lineOf(b, k), k, value, err)
		}
	}
	for host, t := range tables {
		if err := c.addHost(host, t); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	if err := c.hosts.Validate(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return c, nil
}

// decode takes b apart into c.flags and the tables of hosts. The schema is a
// struct made of the known flags, so that the decoder finds unknown keys.
func (c *config) decode(b []byte, known map[string]*pflag.Flag) (map[string]hostTable, error) {
	keys := make([]string, 0, len(known))
	for k := range known {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	fields := []reflect.StructField{{Name: "Hosts", Type: reflect.TypeFor[map[string]hostTable](), Tag: `toml:"host"`}}
	for i, k := range keys {
		fields = append(fields, reflect.StructField{
			Name: "Flag" + strconv.Itoa(i), Type: reflect.TypeFor[any](), Tag: reflect.StructTag(`toml:"` + k + `"`),
		})
	}
	file := reflect.New(reflect.StructOf(fields))
	err := toml.NewDecoder(bytes.NewReader(b)).DisallowUnknownFields().Decode(file.Interface())
	var unknown *toml.StrictMissingError
	var malformed *toml.DecodeError
	switch {
	case errors.As(err, &unknown) && len(unknown.Errors) > 0:
		e := &unknown.Errors[0]
		line, _ := e.Position()
		return nil, fmt.Errorf("%s:%d: unknown key %q", c.name, line, strings.Join(e.Key(), "."))
	case errors.As(err, &malformed):
		line, _ := malformed.Position()
		if key := malformed.Key(); strings.Contains(err.Error(), "cannot ") && len(key) > 0 {
			// Its own words are about Go's types.
			return nil, fmt.Errorf("%s:%d: %s: it wants another kind of value", c.name, line, strings.Join(key, "."))
		}
		return nil, fmt.Errorf("%s:%d: %w", c.name, line, err)
	case err != nil:
		return nil, fmt.Errorf("%s: %w", c.name, err)
	}
	for i, k := range keys {
		if v := file.Elem().Field(i + 1); !v.IsNil() {
			c.flags[k] = v.Interface()
		}
	}
	tables, _ := reflect.TypeAssert[map[string]hostTable](file.Elem().Field(0))
	return tables, nil
}

// lineOf returns the line on which a good file sets a flag's key.
func lineOf(file []byte, key string) int {
	line := 0
	for text := range bytes.Lines(file) {
		line++
		name, _, _ := bytes.Cut(text, []byte("="))
		if string(bytes.Trim(name, " \t\"'")) == key {
			break
		}
	}
	return line
}

func (c *config) addHost(name string, t hostTable) error {
	dir, err := filepath.Abs(filepath.Dir(c.name))
	if err != nil {
		return err
	}
	h := locator.Host{PlainHTTP: t.PlainHTTP, Mirrors: t.Mirrors}
	if h.Layouts, err = c.path(t.Layouts); err != nil {
		return err
	}
	if h.CA, err = fetch.PEMFiles(t.CA, dir); err != nil {
		return fmt.Errorf("host.%q.ca: %w", name, err)
	}
	if h.Client, err = fetch.KeyPairs(t.Client, dir); err != nil {
		return fmt.Errorf("host.%q.client: %w", name, err)
	}
	c.hosts[name] = h
	return nil
}

// path is name as the file means it: relative to the file's own folder.
func (c *config) path(name string) (string, error) {
	if name == "" || filepath.IsAbs(name) {
		return name, nil
	}
	dir, err := filepath.Abs(filepath.Dir(c.name))
	return filepath.Join(dir, name), err
}

// value looks into the file. A list is one text, its parts joined by
// commas; what is no text, number, truth or list of them is "".
func (c *config) value(f *pflag.Flag) (value, from string, ok bool) {
	v, ok := c.flags[key(f.Name)]
	value = text(v)
	if _, is := f.Value.(*path); is {
		if abs, err := c.path(value); err == nil {
			value = abs
		}
	}
	return value, c.name + ": " + key(f.Name), ok
}

func text(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case bool, int64:
		return fmt.Sprint(v)
	case []any:
		parts := make([]string, len(v))
		for i := range v {
			if parts[i] = text(v[i]); parts[i] == "" {
				return ""
			}
		}
		return strings.Join(parts, ",")
	}
	return ""
}
