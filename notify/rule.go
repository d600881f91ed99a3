package notify

import "slices"

// Rule chooses channels.
type Rule struct {
	// Reasons are words of policy.Reason, or of policy.NoticeKind where there is no reason.
	// Empty: all.
	Reasons []string
	// Severity is the least that the rule is for.
	Severity Severity
	// Channels are told. Empty: nobody is.
	Channels []string
}

// choose returns the channels that are told of something.
func (s *Settings) choose(topic, kind string, severity Severity) []string {
	for _, r := range s.Rules {
		if severity >= r.Severity && (len(r.Reasons) == 0 || slices.Contains(r.Reasons, topic) || slices.Contains(r.Reasons, kind)) {
			return r.Channels
		}
	}
	if len(s.Rules) > 0 || severity < Warning {
		return nil
	}
	all := make([]string, len(s.Channels))
	for i, c := range s.Channels {
		all[i] = c.Name
	}
	return all
}
