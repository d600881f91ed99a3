#!/bin/sh
# Runs `go` with these arguments, and repeats at the very end which tests have failed and why: what programs and phones have
# logged in between is long, and a CI system may keep only the last of it.
#
#   e2e/test.sh test ./...
set -eu

said=$(mktemp -d)
trap 'rm -rf "$said"' EXIT
trap : INT TERM HUP # the tests clean up; then this ends
echo 1 >"$said/code"
{
	code=0
	"${GO:-go}" "$@" 2>&1 || code=$?
	echo "$code" >"$said/code"
} | tee -i "$said/out"
read -r code <"$said/code"
test "$code" = 0 || {
	echo "──── failed:"
	grep -aE '^ *--- FAIL|^FAIL	|_test\.go:[0-9]+: |^panic: |^fatal error: |WARNING: DATA RACE|\.go:[0-9]+:[0-9]+: ' "$said/out" |
		grep -av '────' | cut -c 1-240 | head -n 40
}
exit "$code"
