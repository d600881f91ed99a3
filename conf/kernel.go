package conf

import (
	"fmt"
	"regexp"
	"strconv"
	"time"
)

// KernelBackend is what holds the bans in the kernel.
type KernelBackend string

// The backends.
const (
	KernelAuto     KernelBackend = "auto" // ipset where it works, else nftables, else none
	KernelIPSet    KernelBackend = "ipset"
	KernelNFTables KernelBackend = "nftables"
	KernelNone     KernelBackend = "none"
)

// KernelScope is what a ban keeps its source from.
type KernelScope string

// The scopes.
const (
	KernelPorts KernelScope = "ports" // the ports that sipward listens on
	KernelAll   KernelScope = "all"   // everything that this machine receives
)

// KernelExit is what becomes of the kernel's sets and rules when sipward ends.
type KernelExit string

// The ways to leave.
const (
	KernelLeave  KernelExit = "leave" // bans stay in force until they end
	KernelRemove KernelExit = "remove"
)

// Kernel mirrors the bans into the kernel.
type Kernel struct {
	Backend KernelBackend
	Scope   KernelScope
	// ManageRule has sipward make the rules that use its sets.
	ManageRule bool
	// MaxEntries caps each set.
	MaxEntries int
	// Interval is the time between two comparisons of the kernel with the lists.
	Interval time.Duration
	OnExit   KernelExit
	// Name begins the name of everything that is made in the kernel.
	Name string
}

// KernelLimit is a number of packets per second, 0 for no limit, or
// KernelLimitAuto.
type KernelLimit int

// KernelLimitAuto: there is a limit while a receive queue fills.
const KernelLimitAuto KernelLimit = -1

func (l KernelLimit) String() string {
	if l == KernelLimitAuto {
		return "auto"
	}
	return strconv.Itoa(int(l))
}

func kernelKeys() []key {
	backend := oneOf(nil, choice[KernelBackend]{"auto", KernelAuto}, choice[KernelBackend]{"ipset", KernelIPSet},
		choice[KernelBackend]{"nftables", KernelNFTables}, choice[KernelBackend]{"none", KernelNone})
	scope := oneOf(nil, choice[KernelScope]{"ports", KernelPorts}, choice[KernelScope]{"all", KernelAll})
	exit := oneOf(nil, choice[KernelExit]{"leave", KernelLeave}, choice[KernelExit]{"remove", KernelRemove})
	return []key{
		bind("kernel.backend", "auto", onRestart, backend, func(c *Config) *KernelBackend { return &c.Kernel.Backend }),
		bind("kernel.scope", "ports", onRestart, scope, func(c *Config) *KernelScope { return &c.Kernel.Scope }),
		bind("kernel.manage_rule", "true", onRestart, trueOrFalse(), func(c *Config) *bool { return &c.Kernel.ManageRule }),
		bind("kernel.max_entries", "524288", onRestart, wholeNumber(1024, 16_777_216), func(c *Config) *int { return &c.Kernel.MaxEntries }),
		bind("kernel.interval", "30s", onRestart, duration(time.Second, time.Hour), func(c *Config) *time.Duration { return &c.Kernel.Interval }),
		bind("kernel.on_exit", "leave", onRestart, exit, func(c *Config) *KernelExit { return &c.Kernel.OnExit }),
		bind("kernel.name", "sipward", onRestart, word("name", kernelNameRule), func(c *Config) *string { return &c.Kernel.Name }),
	}
}

var kernelNameForm = regexp.MustCompile(`^[a-z0-9]{1,16}$`)

// kernelNameRule allows what fits into the names of sets and chains.
func kernelNameRule(text string) error {
	if !kernelNameForm.MatchString(text) {
		return fmt.Errorf("%s cannot begin the name of a set; write 1 to 16 small letters and digits, such as sipward", quote(text))
	}
	return nil
}

// kernelLimit reads what strangers may send.
func kernelLimit() kind[KernelLimit] {
	const highest = 1_000_000 // of the kernel's hashlimit
	number := wholeNumber(0, highest)
	name := "auto or " + number.name
	return scalar(name, func(text string) (KernelLimit, error) {
		if text == "auto" {
			return KernelLimitAuto, nil
		}
		n, err := strconv.Atoi(text)
		if !wholeNumberForm.MatchString(text) || err != nil || n < 0 || n > highest {
			return 0, fmt.Errorf("%s is not known here; write %s", quote(text), name)
		}
		return KernelLimit(n), nil
	})
}
