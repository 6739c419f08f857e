# The layout never changes a bit of an answer.
# shellcheck shell=bash

load lib

# Requests of all kinds and of unequal length: greedy, seeded, penalised,
# several choices, logprobs of prompts; prompts below and above a tile of 128.
requests() {
	local i long='' q='What is 12 + 30? '
	for i in {1..14}; do long+=$q; done
	for i in {1..8}; do
		printf '{"prompt":"%sWhat is %d + %d?","max_tokens":%d,' \
		    "${long:0:i*i*3}" "$i" "$((i * 7))" "$((4 + i * 3))"
		printf '"temperature":0,"logprobs":2}\n'
		printf '{"messages":[{"role":"user","content":"%s%d"}],' \
		    "${long:0:i*20}" "$i"
		printf '"max_tokens":24,"temperature":0.8,"seed":%d,' "$i"
		printf '"logprobs":true,"top_logprobs":3}\n'
	done
	printf '{"prompt":"%s","max_tokens":1,"echo":true,"logprobs":1,%s}\n' \
	    "$long" '"temperature":0'
	printf '{"prompt":["I am","The"],"n":2,"seed":3,"max_tokens":9,%s}\n' \
	    '"repetition_penalty":1.3,"logprobs":1'
}

# What one rank says is the standard.
setup_file() {
	export DSI_CACHE=$BATS_FILE_TMPDIR/cache
	requests >"$BATS_FILE_TMPDIR/in"
	dsi-gen --jsonl "$DEMO" <"$BATS_FILE_TMPDIR/in" \
	    >"$BATS_FILE_TMPDIR/want"
}

# layout TP DP PP EP [flags]: the same bytes
layout() {
	local tp=$1 dp=$2 pp=$3 ep=$4
	shift 4
	echo "tp$tp dp$dp pp$pp ep$ep $*"
	dsi-gen --jsonl --tensor-parallel-size="$tp" \
	    --data-parallel-size="$dp" --pipeline-parallel-size="$pp" \
	    --expert-parallel-size="$ep" "$@" "$DEMO" \
	    <"$BATS_FILE_TMPDIR/in" >got
	same got "$BATS_FILE_TMPDIR/want"
}

setup() {
	export DSI_CACHE=$BATS_FILE_TMPDIR/cache
	cd "$BATS_TEST_TMPDIR" || return 1
}

@test "tensor parallel: 2, 4, 8, 16 ranks" {
	for tp in 2 4 8 16; do layout $tp 1 1 1; done
}

@test "expert parallel over tensor ranks: 2, 4, 16" {
	layout 2 1 1 2
	layout 4 1 1 4
	layout 16 1 1 16
	layout 8 1 1 4
}

@test "data and expert parallel: DP2, DP4TP4EP4, DP2TP8EP16, DP4TP4EP16" {
	layout 1 2 1 1
	layout 4 4 1 4
	layout 8 2 1 16
	layout 4 4 1 16
}

@test "pipeline parallel: PP2, PP2TP2, DP2TP2PP2EP4" {
	layout 1 1 2 1
	layout 2 1 2 1
	layout 2 2 2 4
	layout 1 1 4 1
}

@test "small steps, small blocks, float32 cache: still the same among layouts" {
	local flags=(--max-num-batched-tokens=40 --block-size=16
	    --kv-cache-dtype=float32 --max-num-seqs=5)
	dsi-gen --jsonl "${flags[@]}" "$DEMO" <"$BATS_FILE_TMPDIR/in" >one
	dsi-gen --jsonl "${flags[@]}" --tensor-parallel-size=2 \
	    --data-parallel-size=2 --enable-expert-parallel "$DEMO" \
	    <"$BATS_FILE_TMPDIR/in" >four
	same one four
	dsi-gen --jsonl "${flags[@]}" --tensor-parallel-size=2 \
	    --pipeline-parallel-size=2 "$DEMO" <"$BATS_FILE_TMPDIR/in" >pipe
	same one pipe
}

@test "few blocks: preempted, and still the bytes of one rank" {
	local flags=(--block-size=16 --num-blocks=40 --max-model-len=640
	    --max-num-batched-tokens=100)
	layout 1 1 1 1 "${flags[@]}"
	layout 1 1 4 1 "${flags[@]}"
	layout 2 2 2 4 "${flags[@]}"
}

# both FILE DIR FLAGS...: one rank and the layout of the flags agree
both() {
	local in=$1 dir=$2
	shift 2
	echo "$dir $*"
	dsi-gen --jsonl "$dir" <"$in" >one
	dsi-gen --jsonl "$@" "$dir" <"$in" >many
	same one many
}

@test "W8A8, where rows are joined as int8: dynamic, and ModelSlim's static" {
	local dir=$DSI_TOP/t/fixtures/even-w8a8-modelslim n
	dsi-shard --quantize int8 -o int8 "$DEMO"
	dsi-gen --jsonl int8 <"$BATS_FILE_TMPDIR/in" >one
	for l in 16:1:1:1 4:4:1:4 2:2:2:4; do
		IFS=: read -r tp dp pp ep <<<"$l"
		dsi-gen --jsonl --quantization=int8 \
		    --tensor-parallel-size="$tp" --data-parallel-size="$dp" \
		    --pipeline-parallel-size="$pp" \
		    --expert-parallel-size="$ep" "$DEMO" \
		    <"$BATS_FILE_TMPDIR/in" | sed 's/"model":"[^"]*"/"model":"int8"/' >many
		echo "$l"
		same one many
	done
	for n in 3 29 40 150 200; do
		printf '{"prompt":['
		seq -s, 3 60 | head -c "$((n > 58 ? 999 : n * 3 - 1))" |
		    sed 's/,$//' | tr -d '\n'
		printf '],"max_tokens":9,"temperature":0,"logprobs":1,'
		printf '"ignore_eos":true}\n'
	done >ids
	both ids "$dir" --tensor-parallel-size=4
	both ids "$dir" --tensor-parallel-size=4 --data-parallel-size=2 \
	    --enable-expert-parallel
	both ids "$dir" --tensor-parallel-size=2 --pipeline-parallel-size=3
}

@test "sockets instead of shared memory" {
	export DSI_TRANSPORT=tcp
	layout 4 1 1 2
	layout 2 2 1 4
	layout 2 1 2 1
}

@test "fixtures of every kind of weights, float and int8" {
	local f
	for f in v2lite-bf16:5:1:1:1 v3-bf16:1:2:1:2 v3-fp8-block:1:2:1:2 \
	    v3-int8-block:1:2:2:2 v3-int8-channel:1:2:1:2 \
	    v3-w8a8-modelslim:1:2:1:2 v3-w8a8-goldenstick:1:2:1:2 \
	    moonlight-int8-channel:1:5:1:5 v2group-bf16:1:2:1:2; do
		IFS=: read -r name tp dp pp ep <<<"$f"
		dir=$DSI_TOP/t/fixtures/$name
		"$B/t/helper/ref" requests "$dir/reference.safetensors" >in
		dsi-gen --jsonl "$dir" <in >one
		dsi-gen --jsonl --tensor-parallel-size="$tp" \
		    --data-parallel-size="$dp" --pipeline-parallel-size="$pp" \
		    --expert-parallel-size="$ep" "$dir" <in >many
		echo "$f"
		same one many
	done
}

@test "a layout that the model can't be cut to is refused with the reason" {
	run -100 dsi-gen --jsonl --tensor-parallel-size=3 "$DEMO" </dev/null
	one_line dsi-gen
	has 'num_attention_heads 16 is not divisible by tensor-parallel-size 3'
	run -100 dsi-gen --jsonl --tensor-parallel-size=3 \
	    "$DSI_TOP/t/fixtures/v3-bf16" </dev/null
	has 'intermediate_size 130'
}
