package conf

import (
	"slices"
	"strings"
)

// variablePrefix begins the name of every environment variable of sipward's.
const variablePrefix = "SIPWARD_"

// variableName spells a key as variables are: register.hit_count becomes
// REGISTER__HIT_COUNT.
func variableName(key string) string {
	return strings.ToUpper(strings.ReplaceAll(key, ".", "__"))
}

// readEnvironment returns the values that the environment sets, by key. When a
// variable comes twice, the later one counts, as it does for a process.
func readEnvironment(rep *report, keys []key, environ []string) map[string]*node {
	byVariable := map[string]key{}
	var names []string
	for _, k := range keys {
		byVariable[k.variable()] = k
		names = append(names, k.variable())
	}
	values := map[string]*node{}
	unknown := map[string]bool{}
	for _, entry := range environ {
		name, text, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(name, variablePrefix) || serviceLink(name) {
			continue
		}
		k, ok := byVariable[name]
		if !ok {
			unknown[name] = true
			continue
		}
		values[k.name] = textNode(text, k.shape, origin{variable: name})
	}
	for name := range unknown {
		rep.fail(origin{variable: name}, "", "there is no such key; %s", suggestVariable(name, names))
	}
	return values
}

// serviceLink recognises the variables that Kubernetes and Docker set in every
// container beside a service that is called sipward. Nobody wrote them for
// sipward to read.
func serviceLink(name string) bool {
	rest := strings.TrimPrefix(name, variablePrefix)
	if strings.Contains(rest, "__") {
		return false
	}
	return rest == "PORT" || rest == "NAME" || strings.HasPrefix(rest, "PORT_") || strings.HasPrefix(rest, "SERVICE_") || strings.HasPrefix(rest, "ENV_")
}

func suggestVariable(name string, names []string) string {
	bare := make([]string, len(names))
	for i, n := range names {
		bare[i] = strings.TrimPrefix(n, variablePrefix)
	}
	if near := nearest(strings.TrimPrefix(name, variablePrefix), bare); near != "" {
		return "did you mean " + variablePrefix + near + "?"
	}
	section, _, _ := strings.Cut(name, "__")
	if i := slices.IndexFunc(names, func(n string) bool { return strings.HasPrefix(n, section+"__") }); i >= 0 {
		return "the names under this section are like " + names[i]
	}
	return "names are like SIPWARD_FLOOD__RATE for flood.rate; unset it"
}
