package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"sipward/admin"
	"sipward/admin/dashboard"
	"sipward/conf"
	"sipward/notify"
	"sipward/policy"
	"sipward/policy/event"
	"sipward/proxy"
	"sipward/proxy/certs"
	"sipward/proxy/divert"
	"sipward/proxy/flow"
	"sipward/proxy/netio"
	"sipward/proxy/upstream"
	"sipward/proxy/upstream/resolve"
	"sipward/report"
)

func newRun() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Protect the PBXes of a configuration file",
		Long: `Protect the PBXes of a configuration file, in the foreground.

SIGTERM and Ctrl-C end it, SIGHUP has it read its configuration again. It tells
systemd when it is ready, reloads and stops, and feeds its watchdog.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			path, err := filepath.Abs(path) // as status and a log are to show it
			if err != nil {
				return err
			}
			c, err := loadConfiguration(path)
			if err != nil {
				return err
			}
			level := new(slog.LevelVar)
			level.Set(c.conf.Log.Level)
			e, err := newEdge(c, newLogger(cmd.ErrOrStderr(), c.conf.Log.Format, level, inJournal()), nil)
			if err != nil {
				return withAdvice(err)
			}
			e.level = level
			return e.Run(cmd.Context())
		},
	}
	configFlag(cmd, &path)
	return cmd
}

// An edge is a whole sipward: what a configuration says, built and wired.
type edge struct {
	log      *slog.Logger
	engine   *policy.Engine
	pool     *upstream.Pool
	resolver *resolve.Resolver
	server   *proxy.Server
	files    *files        // nil if TFTP is off
	names    *names        // nil if DNS is off
	divert   *divert.Rules // nil in proxy mode
	control  *admin.Server
	page     *dashboard.Dashboard
	series   *dashboard.Series
	store    *certs.Store
	acme     *certs.ACME
	carriers atomic.Pointer[certs.Trunks]
	state    *state
	mirror   *mirror
	notices  *notices
	journal  *report.Journal // nil: there is none
	notifier *notify.Notifier
	reports  *report.Scheduler // nil: there is no journal
	events   *event.Bus
	started  time.Time
	workers  int
	level    *slog.LevelVar // of log; nil if it does not change
	closed   rate.Sometimes // bounds the lines about connections of banned sources

	mu     sync.Mutex // one change at a time
	config *configuration
	lists  lists // those of config, and the entries made by command
}

// newEdge builds everything and binds every socket. Nothing passes before Run.
// What the last sipward left in the state folder is in force before the first
// socket is open. events, if not nil, shows each decision to its subscribers.
func newEdge(c *configuration, log *slog.Logger, events *event.Bus) (*edge, error) {
	if events == nil {
		events = new(event.Bus)
	}
	e := &edge{
		log: log, config: c, started: time.Now(), workers: c.conf.UDP.Workers,
		notices: newNotices(), events: events,
		closed: rate.Sometimes{First: 60, Interval: time.Second},
	}
	if e.workers == 0 {
		e.workers = netio.DefaultWorkers()
	}
	var err error
	if e.state, err = openState(c.conf, e.goodSources, log); err != nil {
		return nil, err
	}
	if err := e.build(events); err != nil {
		e.files.close()
		e.names.close()
		e.closeACME()
		e.state.Close()
		e.closeJournal()
		return nil, err
	}
	return e, nil
}

// goodSources says how many sources are in good standing.
func (e *edge) goodSources() int { return e.engine.GoodSources() }

// build makes all that stands on the state.
func (e *edge) build(events *event.Bus) error {
	c, log := e.config, e.log
	key, err := flow.LoadKey(c.conf.TokenKeyFile)
	if err != nil {
		return err
	}
	if err := e.openJournal(); err != nil {
		return err
	}
	if e.mirror, err = newMirror(e.state, c.conf, e.hearKernel, log); err != nil {
		return err
	}
	if e.notifier, err = e.newNotifier(); err != nil {
		return err
	}
	e.newScheduler()
	e.lists = c.lists.withCommands(e.state.store)
	e.engine = policy.New(e.policyConfig(c))
	e.recall(time.Now())
	e.mirror.setLists(e.lists)
	e.mirror.setGood(e.engine)
	e.mirror.setLimit(c.conf.Overload)
	if err = e.openCertificates(); err != nil {
		return err
	}
	e.warn(c)
	if e.pool, err = upstream.New(poolConfig(c, e.store, log)); err != nil {
		return err
	}
	e.resolver = resolve.New(resolverConfig(c.conf))
	cfg := proxy.Config{
		UDP: netio.UDPConfig{Workers: e.workers, Batch: c.conf.UDP.Batch, ReceiveBuffer: c.conf.UDP.ReceiveBuffer},
		TCP: tcpConfig(c.conf, e.engine), DialTimeout: c.conf.TCP.DialTimeout,
		Settings: settings(c), QueueFull: e.mirror.queueFull, Explain: certs.Explain, TrunkTLS: e.trunkTLS,
		Key: key, Engine: e.engine, Pool: e.pool, Resolver: e.resolver, Events: events, Log: log,
	}
	cfg.DTLS = dtlsConfig(c.conf, cfg.TCP, e.store)
	if e.files, err = e.newFiles(events); err != nil {
		return err
	}
	if e.names, err = e.newNames(events); err != nil {
		return err
	}
	if err := e.stand(&cfg); err != nil {
		return err
	}
	if e.server, err = proxy.New(cfg); err != nil {
		return err
	}
	if err := e.lead(); err != nil {
		e.server.Close()
		return err
	}
	err = e.openControl(events)
	if err != nil {
		err = errors.Join(err, e.leadNoMore())
		e.server.Close()
	}
	return err
}

// openControl makes what people and programs reach sipward itself by.
func (e *edge) openControl(events *event.Bus) error {
	c := e.config
	e.series = dashboard.NewSeries(e.reasons)
	var err error
	if e.page, err = dashboard.New(e.series); err != nil {
		return err
	}
	e.control, err = admin.New(admin.Config{
		Socket: c.conf.Control.Socket, Mode: c.conf.Control.Mode, Group: c.conf.Control.Group,
		TCP: c.conf.Control.Listen, Access: c.access, Mounts: e.page.Mounts(),
		Backend: e, Events: events, Bans: e.state.bans, Audit: e.audit, Log: e.log,
	})
	return err
}

// recall gives the sources of recent registrations back the good standing that a restart
// took from them, until their phones have registered again, and puts quarantines in force.
func (e *edge) recall(now time.Time) {
	e.engine.Resume(now.UnixNano())
	e.state.places.Sources(now.Add(-24*time.Hour).UnixNano(), func(a netip.Addr) {
		e.engine.Recall(a, now.UnixNano())
	})
}

// Run works until ctx ends or something fails that it cannot work without.
func (e *edge) Run(ctx context.Context) error {
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	group, work := errgroup.WithContext(work)
	defer e.state.Close()
	defer e.closeJournal()
	group.Go(func() error { return e.state.bans.Run(work) })
	group.Go(func() error { return e.notices.Run(work, e.log) })
	if e.journal != nil {
		group.Go(func() error { return e.journal.Run(work, e.events, e.state.bans) })
		group.Go(func() error { return e.reports.Run(work) })
	}
	group.Go(func() error { return e.notifier.Run(work) })
	group.Go(func() error { return e.tellOfBans(work) })
	group.Go(func() error { return e.countStopped(work, e.events) })
	group.Go(func() error { return e.awaitState(work) })
	group.Go(func() error { return e.watchFiles(work) })
	group.Go(func() error { return e.acme.Run(work) })
	group.Go(func() error { return e.watchCertificates(work) })
	group.Go(func() error { return e.cutOffBanned(work) })
	group.Go(func() error { return e.mirror.Run(work) })
	group.Go(func() error { return e.mirror.followStandings(work, e.engine) })
	group.Go(func() error { return e.mirror.limitStrangers(work) })
	group.Go(func() error { return e.tick(work) })
	group.Go(func() error { return e.pool.Run(work) })
	group.Go(func() error { return e.server.Run(work) })
	group.Go(func() error { return e.files.Run(work) })
	group.Go(func() error { return e.names.Run(work) })
	if e.divert != nil {
		group.Go(func() error { return e.divert.Run(work) })
	}
	group.Go(func() error { return e.control.Run(work) })
	group.Go(func() error { return e.series.Run(work) })
	group.Go(func() error { return e.reloadOnHangup(work) })
	group.Go(func() error { return feedWatchdog(work, e) })
	group.Go(func() error {
		defer stop()
		select {
		case <-ctx.Done():
		case <-work.Done():
			return nil
		}
		e.notify(stateStopping)
		e.log.Info("stopping", "drain", e.current().conf.Shutdown.Drain)
		e.server.Drain(work, e.current().conf.Shutdown.Drain)
		return nil
	})
	e.notify(stateReady)
	e.log.Info("ready", "version", versionString(), "mode", e.config.conf.Mode.String(), "outside", outsideOf(e.config.conf), "pbx", len(e.config.conf.PBX))
	return group.Wait()
}

func (e *edge) current() *configuration {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.config
}

// inForce returns the configuration and the lists with what commands added.
func (e *edge) inForce() (*configuration, lists) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.config, e.lists
}

// reloadOnHangup reloads at each SIGHUP.
func (e *edge) reloadOnHangup(ctx context.Context) error {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-hup:
			e.Reload() // it logs what happened
		}
	}
}

// Reload implements admin.Backend: it reads the file again and puts in force what
// can change at run time. When something is wrong, nothing changes.
func (e *edge) Reload() (admin.Reloaded, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.config.path == "" {
		return admin.Reloaded{}, errors.New("this sipward was started without a configuration file")
	}
	e.notify(stateReloading)
	defer e.notify(stateReady)
	next, err := loadConfiguration(e.config.path)
	if err != nil {
		e.log.Error("not reloaded, the old configuration stays in force", "err", err)
		return admin.Reloaded{}, fmt.Errorf("not reloaded, the old configuration stays in force:\n%w", err)
	}
	done := admin.Reloaded{Changed: []string{}, Restart: []string{}}
	for _, c := range conf.Diff(e.config.conf, next.conf) {
		if c.Restart {
			done.Restart = append(done.Restart, c.String())
		} else {
			done.Changed = append(done.Changed, c.String())
		}
	}
	if err := e.acme.Reload(acmeConfig(next.conf, e.log)); err != nil {
		return admin.Reloaded{}, fmt.Errorf("not reloaded, the old configuration stays in force:\n%w", errors.Join(placed(next.conf, "tls.", err)...))
	}
	if err := e.pool.Reload(poolConfig(next, e.store, e.log)); err != nil {
		return admin.Reloaded{}, err
	}
	if e.divert != nil {
		if err := e.divert.SetPBXes(pbxAddresses(next.conf)); err != nil {
			return admin.Reloaded{}, err
		}
	}
	e.state.bans.Reload(banConfig(next.conf, e.goodSources, e.log))
	if e.level != nil {
		e.level.Set(next.conf.Log.Level)
	}
	e.apply(next)
	done.Warnings = e.warn(next)
	e.mirror.setLimit(next.conf.Overload)
	e.log.Info("reloaded", "changed", done.Changed, "restart", done.Restart)
	return done, nil
}

// apply puts the rules of a configuration in force. The lock is held.
func (e *edge) apply(c *configuration) {
	e.config = c
	e.lists = c.lists.withCommands(e.state.store)
	e.engine.Reload(e.policyConfig(c))
	e.mirror.setLists(e.lists)
	if err := e.notifier.Reload(notifySettings(c)); err != nil { // loadChannels has checked them
		e.log.Error("notifications go on as they were", "err", err)
	}
	if e.reports != nil {
		e.reports.Reload(c.schedules)
	}
	e.store.Put(c.certs)
	e.carriers.Store(c.carriers)
	e.server.Reload(settings(c))
	e.files.reload(c.conf)
	e.names.reload(c.conf)
	e.control.SetAccess(c.access)
}

func settings(c *configuration) proxy.Settings {
	return proxy.Settings{Path: c.conf.Path, Trunks: c.trunks, Certified: certified(c), Shield: c.conf.DigestLeakShield, Strangers: c.conf.Overload.Strangers}
}

// outsideOf says where phones send to.
func outsideOf(c *conf.Config) []string {
	if c.Mode == conf.ModeProxy {
		return urls(c.Listen.Outside)
	}
	return urls(protected(c))
}

// protected returns what is listened on: by us, or in transparent mode by the PBXes.
func protected(c *conf.Config) []conf.Listener {
	if c.Mode == conf.ModeProxy {
		return slices.Concat(c.Listen.Outside, c.Listen.Inside)
	}
	var out []conf.Listener
	for _, p := range c.PBX {
		for _, t := range []conf.Transport{conf.TransportUDP, conf.TransportTCP} {
			out = append(out, conf.Listener{Transport: t, Addr: p.Address})
		}
	}
	return out
}

// insideOf says where PBXes send to.
func insideOf(c *conf.Config) []string {
	if c.Mode == conf.ModeProxy {
		return urls(c.InsideOrOutside())
	}
	return []string{} // to the phones themselves
}

func urls(list []conf.Listener) []string {
	out := make([]string, len(list))
	for i, l := range list {
		out[i] = l.String()
	}
	return out
}
