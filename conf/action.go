package conf

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// reasons says of actions that a guard does not have why that is so.
type reasons map[ActionKind]string

// action reads what a guard does: off, or one of kinds.
func action(without reasons, kinds ...ActionKind) kind[Action] {
	kinds = append([]ActionKind{ActionOff}, kinds...)
	words := make([]string, len(kinds))
	for i, k := range kinds {
		words[i] = k.String()
		if k == ActionReject {
			words[i] += " CODE"
		}
	}
	name := "one of " + strings.Join(words, ", ")
	return scalar(name, func(text string) (Action, error) {
		fields := strings.Fields(text)
		if len(fields) == 0 {
			return Action{}, fmt.Errorf("the action is empty; write %s", name)
		}
		for k, why := range without {
			if fields[0] == k.String() {
				return Action{}, fmt.Errorf("%s is not for this guard: %s; write %s", quote(fields[0]), why, name)
			}
		}
		i := slices.IndexFunc(kinds, func(k ActionKind) bool { return k.String() == fields[0] })
		switch {
		case i < 0:
			return Action{}, fmt.Errorf("%s is not known here; write %s", quote(text), name)
		case kinds[i] == ActionReject:
			code, err := rejectCode(fields[1:])
			return Action{Kind: ActionReject, Code: code}, err
		case len(fields) > 1:
			return Action{}, fmt.Errorf("%s takes nothing behind it; write %s alone", quote(fields[0]), fields[0])
		}
		return Action{Kind: kinds[i]}, nil
	})
}

// rejectCode reads the status of "reject CODE". A challenge (401, 407) is left
// out: it needs a nonce of the PBX (RFC 3261 §22.1).
func rejectCode(fields []string) (int, error) {
	if len(fields) == 0 {
		return 0, fmt.Errorf("reject needs the status to answer with; write one such as reject 403")
	}
	code, err := strconv.Atoi(fields[0])
	switch {
	case len(fields) > 1, err != nil, code < 400, code > 699:
		return 0, fmt.Errorf("%s is not a status that refuses a request; write 400 to 699, such as reject 403", quote(strings.Join(fields, " ")))
	case code == 401, code == 407:
		return 0, fmt.Errorf("%d asks for a password, which only the PBX can; write another one, such as reject 403", code)
	}
	return code, nil
}
