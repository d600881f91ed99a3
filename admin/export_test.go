package admin

import "slices"

// Requests lists every request as METHOD PATH.
func Requests() []string {
	var all []string
	for path, methods := range new(Server).calls() {
		for method := range methods {
			all = append(all, method+" "+path)
		}
	}
	slices.Sort(all)
	return all
}
