#!/bin/sh
# score: how many of the questions in questions.tsv does a model get right?
#
#   sh share/demo/score.sh [MODEL]
#
# An answer is right when it is the expected text to the letter.  Prints
# "RIGHT of ALL"; wrong answers go to stderr with -v.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
verbose=0
[ "${1-}" = -v ] && { verbose=1; shift; }
model=${1:-$here/model}
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cut -f 1 "$here/questions.tsv" >"$tmp/q"
dsi-gen --chat --reasoning hide --temperature 0 --max-tokens 700 \
	"$model" <"$tmp/q" >"$tmp/a"
paste "$here/questions.tsv" "$tmp/a" | awk -F '\t' -v v="$verbose" '
	{ n++ }
	$2 == $3 { ok++; next }
	v { printf "%s: %s, not %s\n", $1, $2, $3 > "/dev/stderr" }
	END { printf "%d of %d\n", ok, n }'
