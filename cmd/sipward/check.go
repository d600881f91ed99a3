package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"sipward/admin"
	"sipward/conf"
	"sipward/notify"
	"sipward/policy/scanner"
	"sipward/report"
)

const defaultConfig = "/etc/sipward/sipward.yaml"

// configFlag adds --config.
func configFlag(cmd *cobra.Command, path *string) {
	cmd.Flags().StringVarP(path, "config", "c", defaultConfig, "configuration `file`")
}

// configuration is a file as sipward would run it: read, checked, and its lists,
// signatures and certificates loaded. It is not changed once made.
type configuration struct {
	path string
	conf *conf.Config
	lists
	credentials
	signatures *scanner.Set
	access     *admin.Access
	channels   []notify.Channel
	schedules  []report.Schedule
	read       map[string]stamp // of the files, from before they were read
}

func loadConfiguration(path string) (*configuration, error) {
	c, err := conf.Load(path, os.Environ())
	if err != nil {
		return nil, err
	}
	full := &configuration{path: path, conf: c}
	return full, full.loadFiles()
}

// loadFiles reads the lists, signatures, secrets and certificates into a configuration that is being
// made.
func (c *configuration) loadFiles() error {
	c.read = stamps(c.files())
	var err1, err2, err3, err4, err5, err6 error
	c.lists, err1 = loadLists(c.conf)
	c.signatures, err2 = loadSignatures(c.conf)
	c.access, err3 = admin.NewAccess(accessConfig(c.conf.Control))
	c.channels, err4 = loadChannels(c.conf)
	c.schedules, err5 = loadSchedules(c.conf)
	c.credentials, err6 = loadCredentials(c.conf)
	return errors.Join(err1, err2, err3, err4, err5, err6)
}

func newCheck() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check a configuration file and its lists without starting anything",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := loadConfiguration(path)
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			fmt.Fprintf(out, "%s is correct.\n", path)
			for _, l := range c.conf.Listen.Outside {
				fmt.Fprintf(out, "outside  %s\n", l)
			}
			for _, l := range c.conf.Listen.Inside {
				fmt.Fprintf(out, "inside   %s\n", l)
			}
			for _, p := range c.conf.PBX {
				fmt.Fprintf(out, "pbx      %s\n", p)
			}
			for _, i := range c.certs.Infos() {
				fmt.Fprintf(out, "tls      %s: %s until %s\n", i.Source, ofNames(i.Names), clock(i.NotAfter))
			}
			for _, name := range c.conf.TLS.ACME.Domains {
				fmt.Fprintf(out, "tls      acme: %s from %s\n", name, c.conf.TLS.ACME.Directory)
			}
			for _, w := range warnings(c, time.Now()) {
				fmt.Fprintf(out, "WARNING  %s\n", safe(w))
			}
			fmt.Fprintf(out, "lists    %d allowed, %d denied, %d trunks\n", c.allow.Len(), c.deny.Len(), c.trunks.Len())
			for _, g := range guardStatus(c.conf, nil, nil, nil) {
				fmt.Fprintf(out, "guard    %s: %s\n", g.Name, g.Action)
			}
			for i := range c.channels {
				fmt.Fprintf(out, "notify   %s: %s to %s\n", c.channels[i].Name, c.channels[i].Type, safe(c.channels[i].Target()))
			}
			for _, s := range c.conf.Report.Schedule {
				fmt.Fprintf(out, "report   %s\n", s)
			}
			_, err = fmt.Fprintf(out, "scanner  %d signatures\n", len(c.signatures.Signatures()))
			return err
		},
	}
	configFlag(cmd, &path)
	return cmd
}
