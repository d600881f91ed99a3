package conf

import "strings"

// suggest ends the message about an unknown name: the known one that was
// probably meant, or all of them.
func suggest(name string, known []string) string {
	if near := nearest(name, known); near != "" {
		return `did you mean "` + near + `"?`
	}
	return "the keys here are " + strings.Join(known, ", ")
}

// nearest returns the known name that is fewest typing errors away from name,
// or nothing when none is near.
func nearest(name string, known []string) string {
	if len(name) > 64 {
		return ""
	}
	name = strings.ToLower(strings.ReplaceAll(name, "-", "_"))
	best, bestDistance := "", 1+max(1, len(name)/3)
	for _, k := range known {
		if diff := len(name) - len(k); max(diff, -diff) >= bestDistance {
			continue
		}
		if d := distance(name, strings.ToLower(k)); d < bestDistance {
			best, bestDistance = k, d
		}
	}
	return best
}

// distance counts the typing errors between two names: a character that is
// missing, one too many, a wrong one, or two that changed places.
func distance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}
