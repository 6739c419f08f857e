#!/bin/sh
# demo: from a fresh Debian machine to a model that answers.
#
#   sh share/demo.sh
#
# Installs what the build needs (share/need.sh), builds, splits the shipped
# W8A8 model into rank files and asks it a few questions.  Everything that it
# makes lies under build/.
set -eu
cd "$(dirname "$0")/.."
. share/need.sh

step() {
	printf '\n\033[1m%s\033[0m\n' "$*" >&2
}
[ -t 2 ] || step() { printf '\n%s\n' "$*" >&2; }

step '1. what the build needs'
need make gcc libc6-dev libyaml-dev libcjson-dev libssl-dev libpcre2-dev

step '2. build'
make -s -j"$(nproc)" all

PATH=$PWD/build/bin:$PATH
ranks=build/demo-ranks

step '3. dsi-shard: the published model directory becomes rank files'
dsi-shard -o "$ranks" share/demo/model
ls "$ranks" >&2

step '4. dsi-gen: one question, its reasoning shown'
question='How many times does the letter r appear in '\''strawberry'\''?'
echo "> $question" >&2
echo "$question" |
	dsi-gen --chat --temperature 0 --max-tokens 400 "$ranks"

step '5. dsi-gen: a batch of questions, answers only'
dsi-gen --chat --reasoning hide --temperature 0 --max-tokens 400 "$ranks" <<'EOF'
What is 4821 + 379?
What is 907 times 8?
Ben has 52 shells and finds 17 more. How many shells does Ben have now?
Reverse 'lantern'.
Sort 41, 7, 93, 12.
EOF

step '6. the OpenAI shape, for pipelines'
printf '%s\n' '{"prompt":"I am","max_tokens":20,"temperature":0}' |
	dsi-gen --jsonl "$ranks"

step 'Done.  Try: echo "What is 12 * 7?" | build/bin/dsi-gen --chat '"$ranks"
