#!/bin/sh
# ranks: what a token costs on 16 ranks of this machine, as a multiple of what
# it costs on one rank with a thread for each core.
#
#	sh t/bench/ranks.sh [REPEATS]
#
# The model is of R1's shape, some 700 million int8 parameters with random
# weights.  A step's time is (t(220 tokens) - t(20 tokens)) / 200, at batch 1
# and 4; each layout is measured right after the one rank that it is held to.

cd "$(dirname "$0")/../.." || exit 111
B=${B:-build}
PATH=$PWD/$B/bin:$PATH
reps=${1:-5}
work=$(mktemp -d) || exit 111
trap 'rm -rf "$work"' EXIT
trap 'exit 111' HUP INT TERM
export DSI_CACHE="$work/cache"
mkdir "$work/model"
cat >"$work/model/config.json" <<'END'
{"model_type":"deepseek_v3","hidden_size":1536,"vocab_size":32768,
"num_hidden_layers":10,"num_attention_heads":16,"num_key_value_heads":16,
"q_lora_rank":512,"kv_lora_rank":512,"qk_nope_head_dim":128,
"qk_rope_head_dim":64,"v_head_dim":128,"intermediate_size":6144,
"moe_intermediate_size":512,"n_routed_experts":32,"n_shared_experts":1,
"num_experts_per_tok":4,"n_group":4,"topk_group":2,
"first_k_dense_replace":1,"moe_layer_freq":1,"scoring_func":"sigmoid",
"topk_method":"noaux_tc","norm_topk_prob":true,"routed_scaling_factor":2.5,
"rms_norm_eps":1e-06,"rope_theta":10000,"max_position_embeddings":4096,
"hidden_act":"silu","tie_word_embeddings":false,"attention_bias":false,
"bos_token_id":0,"eos_token_id":1,"torch_dtype":"bfloat16"}
END

# seconds TOKENS BATCH FLAGS...: of one run
seconds() {
	n=$1 width=$2
	shift 2
	start=$(date +%s%N)
	i=0
	while [ $((i += 1)) -le "$width" ]; do
		printf '{"prompt":[%d,2,3,4,5,6,7,8],"max_tokens":%d,' $i "$n"
		printf '"temperature":0,"ignore_eos":true}\n'
	done | dsi-gen --jsonl --load-format=dummy --quantization=int8 \
	    --max-num-batched-tokens=256 --num-blocks=64 "$@" \
	    "$work/model" >/dev/null 2>"$work/err" || {
		cat "$work/err" >&2
		exit 111
	}
	echo "$start $(date +%s%N)" | awk '{ print ($2 - $1) / 1e9 }'
}

# token BATCH FLAGS...: milliseconds that a step takes
token() {
	a=$(seconds 20 "$@") || exit
	b=$(seconds 220 "$@") || exit
	echo "$a $b" | awk '{ print ($2 - $1) * 5 }'
}

median() {
	sort -g | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'
}

one="--threads=$(nproc)"
printf '# layout\tbatch\tms a step\tone rank\tratio (median of %d)\n' "$reps"
for layout in '16 1 1' '4 4 4' '4 4 16'; do
	# shellcheck disable=SC2086
	set -- $layout
	many="--tensor-parallel-size=$1 --data-parallel-size=$2
	    --expert-parallel-size=$3"
	for batch in 1 4; do
		: >"$work/all"
		# shellcheck disable=SC2086
		seconds 1 1 $many >/dev/null	# makes the rank files
		r=0
		while [ $((r += 1)) -le "$reps" ]; do
			x=$(token "$batch" "$one") || exit
			# shellcheck disable=SC2086
			y=$(token "$batch" $many) || exit
			echo "$x $y" >>"$work/all"
		done
		printf 'tp%s dp%s ep%s\t%d\t%.1f\t%.1f\t%.2f\n' "$1" "$2" \
		    "$3" "$batch" \
		    "$(awk '{ print $2 }' "$work/all" | median)" \
		    "$(awk '{ print $1 }' "$work/all" | median)" \
		    "$(awk '{ print $2 / $1 }' "$work/all" | median)"
	done
done
