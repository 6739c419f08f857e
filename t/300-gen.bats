# dsi-gen: prompts in, completions out.
# shellcheck shell=bash

load lib

# Rank files are made once for all tests of this file.
setup_file() {
	export RANKS=$BATS_FILE_TMPDIR/ranks
	dsi-shard -o "$RANKS" "$DEMO"
}

gen() {
	dsi-gen "$@" "$RANKS"
}

# get EXPRESSION <file: one value of a JSON line (python-free, by jq)
get() {
	jq -r "$1"
}

@test "a question is answered, its reasoning shown, hidden or split off" {
	local q='What is 4821 + 379?'
	run -0 gen --chat --temperature 0 <<<"$q"
	[[ $output == '<think>'*'</think>'*'4821 + 379 = 5200' ]]
	run -0 gen --chat --temperature 0 --reasoning hide <<<"$q"
	[[ $output == '4821 + 379 = 5200' ]]
	gen --chat --temperature 0 --reasoning split <<<"$q" >out 2>err
	[[ $(<out) == '4821 + 379 = 5200' ]]
	[[ $(<err) == 'Add 4821 and 379 from the right.'* ]]
}

@test "completions leave in the order of their prompts" {
	for i in 9 3 7 1 8 2; do echo "What is $i + $i?"; done |
	    gen --chat --temperature 0 --reasoning hide >out
	printf '%s\n' '9 + 9 = 18' '3 + 3 = 6' '7 + 7 = 14' '1 + 1 = 2' \
	    '8 + 8 = 16' '2 + 2 = 4' >want
	same out want
}

@test "NUL-separated prompts, and all of stdin as one" {
	printf 'I am\0The router' | gen -0 --temperature 0 --max-tokens 8 >out
	[[ $(tr -cd '\0' <out | wc -c) == 2 ]]
	printf 'I am\nThe' | gen -f --temperature 0 --max-tokens 8 >whole
	[[ $(wc -c <whole) -gt 1 ]]
	printf 'I am\nThe' | gen --temperature 0 --max-tokens 8 >lines
	run ! cmp -s whole lines
}

@test "--jsonl: completions and chat in OpenAI's shape" {
	cat >in <<'EOF'
{"prompt":"I am","max_tokens":5,"temperature":0,"logprobs":2,"echo":true}
{"messages":[{"role":"user","content":"What is 2 + 3?"}],"temperature":0,"logprobs":true,"top_logprobs":1}
EOF
	run -0 gen --jsonl <in
	head -n 1 <<<"$output" >a
	tail -n 1 <<<"$output" >b
	[[ $(get .object <a) == text_completion ]]
	[[ $(get .choices[0].text <a) == 'I am'* ]]
	[[ $(get '.choices[0].logprobs.token_logprobs[0]' <a) == null ]]
	[[ $(get '.choices[0].logprobs.tokens | length' <a) == 8 ]]
	[[ $(get '.choices[0].logprobs.top_logprobs[3] | length' <a) -ge 2 ]]
	[[ $(get .choices[0].finish_reason <a) == length ]]
	[[ $(get .usage.completion_tokens <a) == 5 ]]
	[[ $(get .object <b) == chat.completion ]]
	[[ $(get .choices[0].message.content <b) == '2 + 3 = 5' ]]
	[[ $(get .choices[0].message.reasoning_content <b) == Add* ]]
	[[ $(get .choices[0].finish_reason <b) == stop ]]
	[[ $(get '.choices[0].logprobs.content[0].top_logprobs | length' <b) == 1 ]]
}

@test "--jsonl: n, seed, stop strings, token ids" {
	cat >in <<'EOF'
{"prompt":"I am","max_tokens":12,"n":3,"seed":5,"temperature":1}
{"prompt":"I am","max_tokens":12,"n":3,"seed":5,"temperature":1}
{"prompt":"I am","max_tokens":40,"temperature":0,"stop":["that"]}
{"prompt":[0,10,11,12],"max_tokens":3,"temperature":0,"return_token_ids":true,"ignore_eos":true}
EOF
	gen --jsonl <in >out
	[[ $(sed -n 1p out | get '.choices | length') == 3 ]]
	[[ $(sed -n 1p out | get '[.choices[].text]') == \
	    "$(sed -n 2p out | get '[.choices[].text]')" ]]
	[[ $(sed -n 1p out | get '[.choices[].text] | unique | length') -gt 1 ]]
	[[ $(sed -n 3p out | get .choices[0].text) != *that* ]]
	[[ $(sed -n 3p out | get .choices[0].stop_reason) == that ]]
	[[ $(sed -n 3p out | get .choices[0].finish_reason) == stop ]]
	[[ $(sed -n 4p out | get '.choices[0].token_ids | length') == 3 ]]
}

@test "--jsonl: a bad line gives an error in its place, and status 1" {
	cat >in <<'EOF'
{"prompt":"I am","max_tokens":2,"temperature":0}
{"prompt":"I am","temperature":3}
nonsense
{"custom_id":"x","method":"POST","url":"/v1/completions","body":{"prompt":"I am","max_tokens":2}}
{"prompt":"I am","guided_json":{}}
EOF
	run -1 --separate-stderr gen --jsonl <in
	[[ ${#lines[@]} == 5 ]]
	[[ $(get .error.param <<<"${lines[1]}") == temperature ]]
	[[ $(get .error.type <<<"${lines[1]}") != null ]]
	[[ $(get .error.message <<<"${lines[2]}") == *JSON* ]]
	[[ $(get .custom_id <<<"${lines[3]}") == x ]]
	[[ $(get .response.status_code <<<"${lines[3]}") == 200 ]]
	[[ $(get .error.param <<<"${lines[4]}") == guided_json ]]
}

@test "the answer does not depend on what shares the batch, or how" {
	for i in {1..64}; do
		printf '{"prompt":"%s","max_tokens":20,"seed":%d,"temperature":0.9,"logprobs":1,"echo":true}\n' \
		    "$(head -c $((i * 7)) /dev/zero | tr '\0' 'a') $i and more" "$i"
	done >in
	gen --jsonl <in >together
	: >alone
	for i in 1 17 40 64; do
		sed -n "${i}p" in | gen --jsonl --threads 1 >>alone
		sed -n "${i}p" together >>want
	done
	jq -c .choices alone >a
	jq -c .choices want >b
	same a b
	gen --jsonl --max-num-batched-tokens 16 --threads 1 <in >other
	same together other
	gen --jsonl --max-num-batched-tokens 100 --no-enable-prefix-caching <in >other
	same together other
	gen --jsonl --block-size 16 --max-model-len 1024 --num-blocks 64 <in >other
	same together other
}

@test "a killed batch goes on and ends with the same file" {
	for i in {1..300}; do
		printf '{"messages":[{"role":"user","content":"What is %d + %d?"}],"seed":%d}\n' \
		    $((i * 37)) $((i * 91)) "$i"
	done >in
	gen --jsonl --resume whole <in
	[[ $(wc -l <whole) == 300 ]]
	local tries=0
	until [[ -e finished ]]; do
		dsi-gen --jsonl --resume part "$RANKS" <in 3>&- &
		local pid=$!
		while kill -0 $pid 2>/dev/null &&
		    [[ $(wc -l <part 2>/dev/null || echo 0) -lt $((tries * 60 + 20)) ]]; do
			sleep 0.02
		done
		if kill -9 $pid 2>/dev/null; then
			wait $pid || true
		elif wait $pid; then
			: >finished
		fi
		[[ $((++tries)) -lt 50 ]]
	done
	[[ $tries -gt 2 ]]
	same whole part
}

@test "--resume refuses the output of another input" {
	echo '{"custom_id":"a","method":"POST","url":"/v1/completions","body":{"prompt":"I","max_tokens":1}}' >in
	gen --jsonl --resume out <in
	sed 's/"a"/"b"/' in >other
	run -100 gen --jsonl --resume out <other
	one_line dsi-gen
	has out
}

@test "an interrupt finishes what is under way" {
	mkfifo pipe
	dsi-gen --jsonl "$RANKS" <pipe >out 2>err 3>&- &
	local pid=$!
	exec 4>pipe
	echo '{"prompt":"I am","max_tokens":300,"ignore_eos":true}' >&4
	sleep 0.5
	kill -INT $pid
	local rc=0
	wait $pid || rc=$?
	exec 4>&-
	[[ $rc == 1 ]]
	[[ $(get .usage.completion_tokens <out) == 300 ]]
}

@test "a model directory is sharded into the cache once, with a notice" {
	run -0 --separate-stderr dsi-gen --temperature 0 --max-tokens 3 "$DEMO" <<<'I am'
	[[ $stderr == *"$DSI_CACHE"* ]]
	run -0 --separate-stderr dsi-gen --temperature 0 --max-tokens 3 "$DEMO" <<<'I am'
	[[ $stderr == '' ]]
}

@test "a model without tokenizer.json works with token ids" {
	local m=$DSI_TOP/t/fixtures/v3-bf16
	run -100 dsi-gen "$m" <<<'I am'
	has tokenizer.json
	run -0 --separate-stderr dsi-gen --ids --max-tokens 4 --ignore-eos --temperature 0 "$m" <<<'0 5 9'
	[[ $output =~ ^[0-9]+\ [0-9]+\ [0-9]+\ [0-9]+$ ]]
	run -0 --separate-stderr dsi-gen --jsonl "$m" <<<'{"prompt":[0,5,9],"max_tokens":4,"ignore_eos":true}'
	[[ $(get '.choices[0].token_ids | length' <<<"$output") == 4 ]]
}

@test "wrong flags and models are the caller's fault (100), in one line" {
	run -100 gen --temperature 3 <<<x
	one_line dsi-gen
	has temperature
	run -100 gen --block-size 24 <<<x
	has block-size
	run -100 gen --max-model-len 99999 <<<x
	has max-model-len
	run -100 dsi-gen /nonexistent <<<x
	one_line dsi-gen
	run -100 dsi-gen "$DSI_TOP/t" <<<x
	has config.json
	run -100 gen --bogus <<<x
	has bogus
	DSI_CPU=z80 run -100 gen <<<x
	has DSI_CPU
}

@test "a full disk is the system's fault (111)" {
	# shellcheck disable=SC2016 # sh expands it
	run -111 sh -c 'echo I am | dsi-gen --temperature 0 "$RANKS" >/dev/full'
	one_line dsi-gen
}

@test "an empty input is no error" {
	run -0 gen </dev/null
	[[ $output == '' ]]
}
