package main

import (
	"bytes"
	"errors"
	"fmt"
	iofs "io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"

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
type config struct {
	name  string         // of the file, for messages
	flags map[string]any // by key, as TOML has them
	hosts locator.Hosts
}

// A hostTable is what a file says of one host.
type hostTable struct {
	Layouts   string `toml:"layouts"` // relative to the file's folder
	PlainHTTP bool   `toml:"plain_http"`
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
	for k := range c.flags {
		value, _, _ := c.value(known[k])
		_, list := c.flags[k].([]any)
		_, wanted := known[k].Value.(*mountOptions)
		if value == "" || list && !wanted {
			return nil, fmt.Errorf("%s: %s: no value for it: %v", name, k, c.flags[k])
		}
		if err := known[k].Value.Set(value); err != nil {
			return nil, fmt.Errorf("%s: %s: %q: %w", name, k, value, err)
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

func (c *config) addHost(name string, t hostTable) error {
	h := locator.Host{Layouts: t.Layouts, PlainHTTP: t.PlainHTTP}
	if h.Layouts != "" && !filepath.IsAbs(h.Layouts) {
		dir, err := filepath.Abs(filepath.Dir(c.name))
		if err != nil {
			return err
		}
		h.Layouts = filepath.Join(dir, h.Layouts)
	}
	c.hosts[name] = h
	return nil
}

// value looks into the file. A list is one text, its parts joined by
// commas; what is no text, number, truth or list of them is "".
func (c *config) value(f *pflag.Flag) (value, from string, ok bool) {
	v, ok := c.flags[key(f.Name)]
	return text(v), c.name + ": " + key(f.Name), ok
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
