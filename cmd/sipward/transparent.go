package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"sipward/conf"
	"sipward/policy"
	"sipward/proxy"
	"sipward/proxy/divert"
)

func newTransparent() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "transparent",
		Short: "Show, make and remove the rules and routes of transparent mode",
		Long: `Show, make and remove the rules and routes of transparent mode.

sipward run makes them itself and removes them when it ends, unless
transparent.manage_rules is false. These commands are for everything else. They read
the configuration and ask the kernel; they need no running sipward.`,
		Args: noArgs,
	}
	cmd.AddCommand(newTransparentStatus(), newTransparentUp(), newTransparentDown(), newTransparentPrint())
	return cmd
}

// transparentCommand is a command that does something with the rules of a configuration.
func transparentCommand(cmd *cobra.Command, do func(cmd *cobra.Command, r *divert.Rules, c *conf.Config) error) *cobra.Command {
	var path string
	cmd.Args = noArgs
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := loadConfiguration(path)
		if err != nil {
			return err
		}
		if c.conf.Mode != conf.ModeTransparent {
			return fmt.Errorf("%s is not for transparent mode: its mode is %s", path, c.conf.Mode)
		}
		r, err := divert.New(divertConfig(c.conf, nil))
		if err != nil {
			return err
		}
		defer r.Close()
		return withAdvice(do(cmd, r, c.conf))
	}
	configFlag(cmd, &path)
	return cmd
}

func newTransparentStatus() *cobra.Command {
	var asJSON bool
	cmd := transparentCommand(&cobra.Command{
		Use:   "status",
		Short: "Show what is in force, and what may keep calls from passing",
	}, func(cmd *cobra.Command, r *divert.Rules, _ *conf.Config) error {
		s, err := r.Status()
		if err != nil {
			return err
		}
		if asJSON {
			return json.NewEncoder(cmd.OutOrStdout()).Encode(s)
		}
		return printTransparent(cmd.OutOrStdout(), &s)
	})
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func printTransparent(out io.Writer, s *divert.Status) error {
	says := map[divert.State]string{
		divert.Absent:     "not there: messages pass without sipward",
		divert.Owned:      "in force as long as the sipward runs that has made it (fail: open)",
		divert.Persistent: "in force until it is removed (fail: closed)",
	}
	routes := "missing"
	if s.Routes {
		routes = "there"
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "nftables table\t%s: %s\n", s.Table, says[s.State])
	fmt.Fprintf(w, "routing\t%s\n", routes)
	for _, text := range s.Conflicts {
		fmt.Fprintf(w, "conflict\t%s\n", text)
	}
	for _, text := range s.Hints {
		fmt.Fprintf(w, "look at\t%s\n", text)
	}
	return w.Flush()
}

func newTransparentUp() *cobra.Command {
	return transparentCommand(&cobra.Command{
		Use:   "up",
		Short: "Make the rules before sipward runs, so that nothing passes without it",
		Long: `Make the rules before sipward runs, so that nothing passes without it.

It is for fail: closed, at boot, before the network is there. With fail: open the rules
are sipward run's own and end with it.`,
	}, func(cmd *cobra.Command, r *divert.Rules, c *conf.Config) error {
		if c.Transparent.Fail == conf.FailOpen {
			return errors.New("with transparent.fail: open the rules live and die with a running sipward; start `sipward run`")
		}
		if err := r.Up(); err != nil {
			return err
		}
		_, err := fmt.Fprintln(cmd.OutOrStdout(), "Nothing passes until sipward runs.")
		return err
	})
}

func newTransparentDown() *cobra.Command {
	return transparentCommand(&cobra.Command{
		Use:   "down",
		Short: "Remove what a sipward has left, so that everything passes without it",
	}, func(cmd *cobra.Command, r *divert.Rules, _ *conf.Config) error {
		if err := r.Down(); err != nil {
			return err
		}
		_, err := fmt.Fprintln(cmd.OutOrStdout(), "Nothing of transparent mode is left in the kernel.")
		return err
	})
}

func newTransparentPrint() *cobra.Command {
	return transparentCommand(&cobra.Command{
		Use:   "print",
		Short: "Print the rules and routes as a shell script, for those who manage their own",
	}, func(cmd *cobra.Command, r *divert.Rules, c *conf.Config) error {
		_, err := fmt.Fprint(cmd.OutOrStdout(), r.Script())
		return err
	})
}

func divertConfig(c *conf.Config, log *slog.Logger) divert.Config {
	t := &c.Transparent
	cfg := divert.Config{
		PBXes: pbxAddresses(c), Outside: t.Outside, Inside: t.Inside,
		Port: uint16(t.Port), Mark: t.Mark, OwnMark: t.OwnMark, Table: t.Table,
		FailClosed: t.Fail == conf.FailClosed, Log: log,
	}
	if c.Placement == conf.PlacementHost {
		cfg.Placement = divert.Host
	}
	for _, l := range c.DNS.Listen {
		if c.DNS.Redirect {
			cfg.DNS = append(cfg.DNS, divert.Resolver{TCP: l.Transport == conf.TransportTCP, Addr: l.Addr})
		}
	}
	for _, p := range t.CarrierPorts {
		cfg.CarrierPorts = append(cfg.CarrierPorts, uint16(p))
	}
	return cfg
}

func pbxAddresses(c *conf.Config) (all []netip.AddrPort) {
	for _, p := range c.PBX {
		all = append(all, p.Address)
	}
	return all
}

// transparentListeners are where the rules lead messages to: outside, and inside.
func transparentListeners(c *conf.Config) (outside, inside []proxy.Listener) {
	local := []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}
	if hasIPv6() {
		local = append(local, netip.IPv6Loopback())
	}
	port := uint16(c.Transparent.Port)
	for _, a := range local {
		for _, transport := range []policy.Transport{policy.UDP, policy.TCP} {
			out := a
			if transport == policy.TCP && c.Placement == conf.PlacementHost {
				out = netip.IPv4Unspecified() // what is redirected keeps its address
				if a.Is6() {
					out = netip.IPv6Unspecified()
				}
			}
			outside = append(outside, proxy.Listener{Transport: transport, Addr: netip.AddrPortFrom(out, port)})
			inside = append(inside, proxy.Listener{Transport: transport, Addr: netip.AddrPortFrom(a, port+1)})
		}
	}
	return outside, inside
}

// stand makes what differs between the modes: where sipward receives, and what leads
// messages there.
func (e *edge) stand(cfg *proxy.Config) error {
	c := e.config.conf
	if c.Mode == conf.ModeProxy {
		cfg.Outside = proxyListeners(c, reachable(c, e.log), e.store)
		cfg.Inside = proxyListeners(c, c.Listen.Inside, e.store)
		return nil
	}
	cfg.Outside, cfg.Inside = transparentListeners(c)
	rules, err := divert.New(divertConfig(c, e.log))
	if err != nil {
		return err
	}
	cfg.Transparent = &proxy.Transparent{Mark: c.Transparent.OwnMark, MTU: rules.MTU, OnHost: c.Placement == conf.PlacementHost}
	e.divert = rules
	return nil
}

// lead puts the rules in force that lead messages to the open sockets.
func (e *edge) lead() error {
	if e.divert == nil || !e.config.conf.Transparent.ManageRules {
		return nil
	}
	return e.divert.Up()
}

// leadNoMore takes back what lead has done.
func (e *edge) leadNoMore() error {
	if e.divert == nil {
		return nil
	}
	return e.divert.End()
}
