package conf

import (
	"errors"
	"fmt"
	"net"
	"net/mail"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
)

// Notify says who is told of attacks, and how.
type Notify struct {
	// Channels are the ways to tell. Empty: nobody is told.
	Channels []NotifyChannel
	// Rules choose channels; the first that fits counts. Empty: all channels are told of
	// what is a warning or worse.
	Rules []NotifyRule
	Group NotifyGroup
	Spool NotifySpool
}

// NotifyGroup says what is one attack.
type NotifyGroup struct {
	// Quiet is how long nothing must have been heard of an attack before it is over.
	Quiet time.Duration
	// Repeat is how often an attack that goes on is told again. Zero: never.
	Repeat time.Duration
	// Sources is how many sources with the same reason are told one by one.
	Sources int
}

// NotifySpool bounds what waits to be told.
type NotifySpool struct {
	// Size is how many events may wait for one channel.
	Size int
	// Keep is how long each may wait.
	Keep time.Duration
}

// The types of channels.
const (
	NotifySMTP    = "smtp"
	NotifyWebhook = "webhook"
	NotifyCommand = "command"
	NotifySyslog  = "syslog"
)

// The ways of a mail server's TLS.
const (
	NotifyStartTLS = "starttls"
	NotifyTLS      = "tls"
	NotifyNoTLS    = "none"
)

// NotifyChannel is one way to tell somebody. Type says which of the other fields are
// set. Secrets are not in it, but where they are found.
type NotifyChannel struct {
	Name, Type string
	// Server is HOST:PORT for smtp, a URL for syslog.
	Server string
	// TLS is one of the ways above, for smtp.
	TLS                   string
	Username              string
	PasswordFile          string
	PasswordEnv           string
	From                  string
	To                    []string
	URL                   string // may be a secret itself
	SecretFile, SecretEnv string
	Run                   []string
	Facility              NotifyFacility
	CAFile                string
	Timeout               time.Duration
	PerHour               int
}

// String names the channel, and nothing of it that could be a secret.
func (c NotifyChannel) String() string { return c.Name + " (" + c.Type + ")" }

// NotifyFacility is a facility of syslog (RFC 5424 §6.2.1).
type NotifyFacility uint8

// NotifyRule chooses channels.
type NotifyRule struct {
	// Reasons are words of reasons or of kinds of notices; whether there are such is not
	// checked here. Empty: all.
	Reasons []string
	// Severity is the least: "info", "warning" or "critical".
	Severity string
	// Channels are names of channels. Empty: nobody is told.
	Channels []string
}

func (r NotifyRule) String() string {
	return fmt.Sprintf("%v from %s to %v", r.Reasons, r.Severity, r.Channels)
}

func notifyKeys() []key {
	channels := listOf("list of sections", notifyChannel())
	rules := listOf("list of sections", notifyRule())
	return []key{
		bind("notify.channels", "[]", onReload, channels, func(c *Config) *[]NotifyChannel { return &c.Notify.Channels }),
		bind("notify.rules", "[]", onReload, rules, func(c *Config) *[]NotifyRule { return &c.Notify.Rules }),
		bind("notify.group.quiet", "10m", onReload, duration(time.Second, 24*time.Hour), func(c *Config) *time.Duration { return &c.Notify.Group.Quiet }),
		bind("notify.group.repeat", "1d", onReload, duration(0, 30*24*time.Hour), func(c *Config) *time.Duration { return &c.Notify.Group.Repeat }),
		bind("notify.group.sources", "5", onReload, wholeNumber(1, 100), func(c *Config) *int { return &c.Notify.Group.Sources }),
		bind("notify.spool.size", "1000", onReload, wholeNumber(10, 100_000), func(c *Config) *int { return &c.Notify.Spool.Size }),
		bind("notify.spool.keep", "3d", onReload, duration(time.Minute, 30*24*time.Hour), func(c *Config) *time.Duration { return &c.Notify.Spool.Keep }),
	}
}

func words(all ...string) kind[string] {
	var choices []choice[string]
	for _, w := range all {
		choices = append(choices, choice[string]{w, w})
	}
	return oneOf(nil, choices...)
}

func notifyChannel() kind[NotifyChannel] {
	type c = NotifyChannel
	start := c{TLS: NotifyStartTLS, Facility: 3, Timeout: 10 * time.Second, PerHour: 60}
	address := word("mail address", mailRule)
	text := word("text", lineRule)
	variable := word("name of an environment variable", variableRule)
	return item("a channel", start, checkChannel,
		in("name", "", word("name", channelRule), func(v *c) *string { return &v.Name }),
		in("type", "", words(NotifySMTP, NotifyWebhook, NotifyCommand, NotifySyslog), func(v *c) *string { return &v.Type }),
		in("server", "", text, func(v *c) *string { return &v.Server }),
		in("tls", NotifyStartTLS, words(NotifyStartTLS, NotifyTLS, NotifyNoTLS), func(v *c) *string { return &v.TLS }),
		in("username", "", text, func(v *c) *string { return &v.Username }),
		in("password_file", "", path("file"), func(v *c) *string { return &v.PasswordFile }),
		in("password_env", "", variable, func(v *c) *string { return &v.PasswordEnv }),
		in("from", "", address, func(v *c) *string { return &v.From }),
		in("to", "", listOf("list of mail addresses", address), func(v *c) *[]string { return &v.To }),
		in("url", "", text, func(v *c) *string { return &v.URL }),
		in("secret_file", "", path("file"), func(v *c) *string { return &v.SecretFile }),
		in("secret_env", "", variable, func(v *c) *string { return &v.SecretEnv }),
		in("run", "", listOf("list of a program and its arguments", text), func(v *c) *[]string { return &v.Run }),
		in("facility", "daemon", facility(), func(v *c) *NotifyFacility { return &v.Facility }),
		in("ca_file", "", path("file"), func(v *c) *string { return &v.CAFile }),
		in("timeout", "10s", duration(time.Second, 5*time.Minute), func(v *c) *time.Duration { return &v.Timeout }),
		in("per_hour", "60", wholeNumber(1, 100_000), func(v *c) *int { return &v.PerHour }),
	)
}

func notifyRule() kind[NotifyRule] {
	type r = NotifyRule
	return item("a rule", r{Severity: "info"}, nil,
		in("reasons", "[]", listOf("list of reasons", word("reason", reasonRule)), func(v *r) *[]string { return &v.Reasons }),
		in("severity", "info", words("info", "warning", "critical"), func(v *r) *string { return &v.Severity }),
		in("channels", "[]", listOf("list of names", word("name of a channel", channelRule)), func(v *r) *[]string { return &v.Channels }),
	)
}

// facility reads the words of syslog.
func facility() kind[NotifyFacility] {
	names := []string{"kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp"}
	var choices []choice[NotifyFacility]
	for i, name := range names {
		choices = append(choices, choice[NotifyFacility]{name, NotifyFacility(i)})
	}
	for i := range 8 {
		choices = append(choices, choice[NotifyFacility]{fmt.Sprint("local", i), NotifyFacility(16 + i)})
	}
	k := oneOf(nil, choices...)
	k.name = "facility of syslog"
	return k
}

var (
	channelForm  = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,31}$`)
	reasonForm   = regexp.MustCompile(`^[a-z][a-z-]{0,31}$`)
	variableForm = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,63}$`)
)

func channelRule(text string) error {
	if !channelForm.MatchString(text) {
		return fmt.Errorf("%s is not a name; write 1 to 32 small letters, digits and hyphens, such as ops-mail", quote(text))
	}
	return nil
}

func reasonRule(text string) error {
	if !reasonForm.MatchString(text) {
		return fmt.Errorf("%s is not a reason; write one such as register, as `sipward status` shows it", quote(text))
	}
	return nil
}

// variableRule keeps the names that sipward reads keys from out: they would be refused.
func variableRule(text string) error {
	if !variableForm.MatchString(text) || strings.HasPrefix(text, variablePrefix) {
		return fmt.Errorf("%s is not the name of a variable; write one such as SMTP_PASSWORD, which must not begin with %s", quote(text), variablePrefix)
	}
	return nil
}

func lineRule(text string) error {
	if text == "" || len(text) > 2000 || strings.ContainsFunc(text, unicode.IsControl) {
		return errors.New("this must be one line of text that is not empty")
	}
	return nil
}

func mailRule(text string) error {
	if a, err := mail.ParseAddress(text); err != nil || strings.ContainsFunc(text, unicode.IsControl) || a.Address == "" {
		return fmt.Errorf("%s is not a mail address; write one such as ops@example.com", quote(text))
	}
	return nil
}

// belongs says which keys are for one type of channel, beside those that are for all.
var belongs = map[string][]string{
	NotifySMTP:    {"server", "tls", "username", "password_file", "password_env", "from", "to", "ca_file"},
	NotifyWebhook: {"url", "secret_file", "secret_env", "ca_file"},
	NotifyCommand: {"run"},
	NotifySyslog:  {"server", "facility", "ca_file"},
}

// needs says what a type of channel cannot do without.
var needs = map[string][]string{
	NotifySMTP: {"server", "from", "to"}, NotifyWebhook: {"url"}, NotifyCommand: {"run"}, NotifySyslog: {"server"},
}

func checkChannel(d *decoder, key string, n *node, given []string, c *NotifyChannel) {
	for _, name := range []string{"name", "type"} {
		if !slices.Contains(given, name) {
			d.fail(n.at, join(key, name), "the %s of the channel is missing; add it", name)
			return
		}
	}
	for _, name := range given {
		if slices.Contains([]string{"name", "type", "timeout", "per_hour"}, name) || slices.Contains(belongs[c.Type], name) {
			continue
		}
		d.fail(n.fieldAt(name), join(key, name), "a channel of type %s has no such key; remove it (there are %s)", c.Type, strings.Join(belongs[c.Type], ", "))
	}
	for _, name := range needs[c.Type] {
		if !slices.Contains(given, name) {
			d.fail(n.at, join(key, name), "a channel of type %s needs this; add it", c.Type)
			return
		}
	}
	if name, err := c.wrong(); err != nil {
		d.fail(n.fieldAt(name), join(key, name), "%v", err)
	}
}

// wrong returns the first key whose value does not fit the type, and why.
func (c *NotifyChannel) wrong() (name string, err error) {
	switch c.Type {
	case NotifySMTP:
		return c.wrongMail()
	case NotifyWebhook:
		if c.SecretFile != "" && c.SecretEnv != "" {
			return "secret_env", errors.New("the secret comes from a file already; write one of the two")
		}
		return "url", checkHook(c.URL)
	case NotifyCommand:
		if len(c.Run) == 0 || !filepath.IsAbs(c.Run[0]) {
			return "run", errors.New("the program must be a whole path, such as [/usr/local/bin/told, --loud]; there is no shell and no PATH")
		}
	case NotifySyslog:
		return "server", checkSyslog(c.Server)
	}
	return "", nil
}

func (c *NotifyChannel) wrongMail() (name string, err error) {
	if err := checkHostPort(c.Server, "mail.example.com:587"); err != nil {
		return "server", err
	}
	hasPassword := c.PasswordFile != "" || c.PasswordEnv != ""
	switch {
	case len(c.To) == 0:
		return "to", errors.New("the list is empty; write who is to get the mails")
	case c.PasswordFile != "" && c.PasswordEnv != "":
		return "password_env", errors.New("the password comes from a file already; write one of the two")
	case c.Username != "" && !hasPassword:
		return "username", errors.New("there is no password; add password_file or password_env")
	case c.Username == "" && hasPassword:
		return "name", errors.New("there is a password and nobody whose it is; add username")
	case c.Username != "" && c.TLS == NotifyNoTLS:
		return "tls", errors.New("without TLS everybody on the way could read the password; write starttls or tls, or remove username")
	}
	return "", nil
}

func checkHostPort(text, example string) error {
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		return fmt.Errorf("%s is not a host and a port; write them as %s", quote(text), example)
	}
	if _, err := parsePort(port); err != nil {
		return err
	}
	if !validHost(host) && !validAddr(host) {
		return fmt.Errorf("%s is not a host; write %s", quote(host), example)
	}
	return nil
}

// checkHook shows nothing of the URL, which may be a secret.
func checkHook(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return errors.New("this is not the URL of a web server; write one such as https://hooks.example.com/sipward")
	case u.User != nil:
		return errors.New("a name or password in the URL is not sent; sign what is sent with secret_file instead")
	case u.Fragment != "":
		return errors.New("what follows the # is not sent; remove it")
	}
	return nil
}

func checkSyslog(text string) error {
	scheme, rest, _ := strings.Cut(text, "://")
	switch scheme {
	case "udp", "tcp", "tls":
		return checkHostPort(rest, "udp://log.example.com:514")
	case "unix":
		if filepath.IsAbs(rest) {
			return nil
		}
	}
	return fmt.Errorf("%s is not a syslog server; write udp://HOST:514, tcp://HOST:514, tls://HOST:6514 or unix:///dev/log", quote(text))
}

// checkNotify looks at channels and rules together.
func (d *decoder) checkNotify(c *Config) {
	if !d.clean("notify.channels", "notify.rules") {
		return
	}
	var names []string
	for i, ch := range c.Notify.Channels {
		if j := slices.Index(names, ch.Name); j >= 0 {
			d.fail(d.values["notify.channels"].itemAt(i), join(itemKey("notify.channels", i), "name"), "%s is already %s; use another name", quote(ch.Name), itemKey("notify.channels", j))
		}
		names = append(names, ch.Name)
	}
	for i, r := range c.Notify.Rules {
		for j, name := range r.Channels {
			if !slices.Contains(names, name) {
				d.fail(d.values["notify.rules"].itemAt(i), itemKey(join(itemKey("notify.rules", i), "channels"), j), "there is no channel %s; %s", quote(name), suggestChannel(name, names))
			}
		}
	}
}

func suggestChannel(name string, names []string) string {
	if len(names) == 0 {
		return "there are none, write them under notify.channels"
	}
	if near := nearest(name, names); near != "" {
		return `did you mean "` + near + `"?`
	}
	return "there is " + anyOf(names)
}
