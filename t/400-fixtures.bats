# Reference models through dsi-gen: logprobs and greedy tokens.
# shellcheck shell=bash

load lib

# fixture NAME [dsi-gen's flags]: "max M median D p95 P greedy K/N"
fixture() {
	local dir=$DSI_TOP/t/fixtures/$1
	shift
	"$B/t/helper/ref" requests "$dir/reference.safetensors" |
	    dsi-gen --jsonl "$@" "$dir" 2>"$BATS_TEST_TMPDIR/stderr" |
	    "$B/t/helper/ref" compare "$dir/reference.safetensors"
}

# holds WORD LIMIT LINE: the figure after WORD is at most LIMIT
holds() {
	awk -v w="$1" -v limit="$2" '{
		for (i = 1; i < NF; i++)
			if ($i == w) exit !($(i + 1) + 0 <= limit)
		exit 1
	}' <<<"$3"
}

@test "float models in float32: every logprob within 5e-4, greedy tokens the same" {
	for f in v3-bf16 v2lite-bf16 v2group-bf16 moonlight-bf16 v3-fp8-block; do
		run -0 fixture $f --dtype float32 --kv-cache-dtype float32
		echo "$f: $output"
		holds max 5e-4 "$output"
		[[ $output == *"greedy 48/48" ]]
	done
}

@test "float models with the defaults: median 0.02, 95th percentile 0.2" {
	for f in v3-bf16 v2lite-bf16 v2group-bf16 moonlight-bf16 v3-fp8-block; do
		run -0 fixture $f
		echo "$f: $output"
		holds median 0.02 "$output"
		holds p95 0.2 "$output"
	done
}

@test "quantised models: median 0.03, 95th percentile 0.25" {
	for f in v3-int8-channel moonlight-int8-channel v3-int8-block \
	    v3-w8a8-modelslim v3-w8a8-goldenstick; do
		run -0 fixture $f --dtype float32 --kv-cache-dtype float32
		echo "$f: $output"
		holds median 0.03 "$output"
		holds p95 0.25 "$output"
	done
}

@test "activations in bf16 stay near" {
	run -0 fixture v3-bf16 --dtype bfloat16
	echo "$output"
	holds median 0.1 "$output"
}
