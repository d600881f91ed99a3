package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"sipward/conf"
)

const defaultConfig = "/etc/sipward/sipward.yaml"

// configFlag adds --config.
func configFlag(cmd *cobra.Command, path *string) {
	cmd.Flags().StringVarP(path, "config", "c", defaultConfig, "configuration `file`")
}

// configuration is a file as sipward would run it: read, checked, and its lists
// loaded.
type configuration struct {
	path string
	conf *conf.Config
	lists
}

func loadConfiguration(path string) (*configuration, error) {
	c, err := conf.Load(path, os.Environ())
	if err != nil {
		return nil, err
	}
	l, err := loadLists(c)
	if err != nil {
		return nil, err
	}
	return &configuration{path: path, conf: c, lists: l}, nil
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
				fmt.Fprintf(out, "pbx      %s  weight %d\n", p.Address, p.Weight)
			}
			_, err = fmt.Fprintf(out, "lists    %d allowed, %d denied, %d trunks\n", c.allow.Len(), c.deny.Len(), c.trunks.Len())
			return err
		},
	}
	configFlag(cmd, &path)
	return cmd
}
