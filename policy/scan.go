package policy

import "bytes"

// scan asks the signatures of attack tools. What one of them has sent is dropped
// without an answer, whoever sent it: an answer is what it looks for.
func (e *Engine) scan(s *subject, r *Request) Decision {
	rule := &s.rules.Scanner
	if rule.Set == nil || r.Scan == nil {
		return Decision{}
	}
	m := rule.Set.Match(r.Scan)
	if !m.Scanner() {
		return Decision{}
	}
	e.exhibitRequest(s, r, ReasonScanner, m.Signature)
	e.charge(s, charge{
		reason: ReasonScanner, action: rule.Action, block: rule.BlockTime,
		proven: r.proven(), detail: "signature ", name: m.Signature,
	})
	if rule.Action.Kind == ActionReject {
		return Decision{Verdict: Drop, Reason: ReasonScanner}
	}
	return rule.Action.decide(ReasonScanner, 0)
}

// touchHoney looks for accounts and numbers that nobody has an honest reason to
// use.
func (e *Engine) touchHoney(s *subject, r *Request) Decision {
	rules := s.rules
	if len(rules.accounts) == 0 && len(rules.numbers) == 0 {
		return Decision{}
	}
	var buf [maxAccount]byte
	target := appendAccount(buf[:0], r.Target)
	touched := rules.honey(s.name())
	if _, ok := rules.numbers[string(userOf(target))]; ok {
		touched = true
	}
	if !touched {
		return Decision{}
	}
	action := rules.Honey.Action
	e.exhibitRequest(s, r, ReasonHoney, "")
	e.charge(s, charge{
		reason: ReasonHoney, action: action, block: rules.Register.BlockTime,
		proven: r.proven(), detail: "a honey account or number",
	})
	if action.Kind == ActionReject {
		return Decision{Verdict: Drop, Reason: ReasonHoney}
	}
	return action.decide(ReasonHoney, 0)
}

// honey says whether an account is one of the honey accounts.
func (r *rules) honey(account []byte) bool {
	if _, ok := r.accounts[string(account)]; ok {
		return true
	}
	_, ok := r.accounts[string(userOf(account))]
	return ok
}

// userOf returns what stands before the @.
func userOf(account []byte) []byte {
	if i := bytes.LastIndexByte(account, '@'); i >= 0 {
		return account[:i]
	}
	return account
}

// proven says whether the request shows that its source is not forged, well enough to hold it
// against the source. A To tag does not: who is on the other side of the call knows it, too.
func (r *Request) proven() bool { return r.Transport.Connected() || r.Nonce == NonceIssued }
