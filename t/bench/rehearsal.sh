#!/bin/sh
# rehearsal: R1 671B, all 61 layers, on this machine, without its weights.
#
#	sh t/bench/rehearsal.sh [LAYOUT...]	("16 1 1" is tensor, data, expert)
#
# 16 ranks with rank files of the real size that are holes, mapped: what is
# proven is shapes, the plan, files and exchanges at the real size, end to end
# for some tokens.  Prints each rank's bytes on disk beside what dsi-check said
# of it, and holds the layouts' answers to each other.  Takes about 24 GB of
# memory for the page cache, 300 MB of disk, and some minutes.

cd "$(dirname "$0")/../.." || exit 111
B=${B:-build}
PATH=$PWD/$B/bin:$PATH
work=$(mktemp -d) || exit 111
trap 'rm -rf "$work"' EXIT
trap 'exit 111' HUP INT TERM
export DSI_CACHE="$work/cache"
mkdir "$work/r1"

# the published shape
cat >"$work/r1/config.json" <<'END'
{"model_type":"deepseek_v3","hidden_size":7168,"vocab_size":129280,
"num_hidden_layers":61,"num_attention_heads":128,"num_key_value_heads":128,
"num_nextn_predict_layers":1,"q_lora_rank":1536,"kv_lora_rank":512,
"qk_nope_head_dim":128,"qk_rope_head_dim":64,"v_head_dim":128,
"intermediate_size":18432,"moe_intermediate_size":2048,
"n_routed_experts":256,"n_shared_experts":1,"num_experts_per_tok":8,
"n_group":8,"topk_group":4,"first_k_dense_replace":3,"moe_layer_freq":1,
"scoring_func":"sigmoid","topk_method":"noaux_tc","norm_topk_prob":true,
"routed_scaling_factor":2.5,"rms_norm_eps":1e-06,"rope_theta":10000,
"rope_scaling":{"type":"yarn","factor":40,"beta_fast":32,"beta_slow":1,
"mscale":1.0,"mscale_all_dim":1.0,"original_max_position_embeddings":4096},
"max_position_embeddings":163840,"hidden_act":"silu",
"tie_word_embeddings":false,"attention_bias":false,"bos_token_id":0,
"eos_token_id":1,"torch_dtype":"bfloat16"}
END

for i in 1 2 3 4; do
	printf '{"prompt":[%d,2,3],"max_tokens":2,"temperature":0,' $i
	printf '"ignore_eos":true,"logprobs":1}\n'
done >"$work/in"

# rehearse TP DP EP: its table, and its answers in $work/got.TP.DP.EP
rehearse() {
	flags="--tensor-parallel-size=$1 --data-parallel-size=$2
	    --expert-parallel-size=$3 --quantization=int8
	    --max-model-len=1024 --max-num-batched-tokens=64
	    --max-num-seqs=4 --num-blocks=64"
	start=$(date +%s)
	# shellcheck disable=SC2086
	dsi-check --json $flags "$work/r1" >"$work/plan" || [ $? = 1 ] || return
	# shellcheck disable=SC2086
	dsi-gen --jsonl --load-format=hollow --safetensors-load-strategy=lazy \
	    $flags "$work/r1" <"$work/in" >"$work/got.$1.$2.$3" || return
	printf 'tp%d dp%d ep%d: %d answers of 2 tokens in %d s\n' "$1" "$2" \
	    "$3" "$(wc -l <"$work/got.$1.$2.$3")" $(($(date +%s) - start))
	jq -r '.ranks[] | "\(.rank) \(.weight_bytes)"' "$work/plan" |
	    while read -r rank want; do
		got=$(cat "$DSI_CACHE"/*/manifest.json |
		    jq "[.files[] | select(.rank == $rank) | .bytes] | add")
		printf '  rank %2d: %d bytes, dsi-check says %d%s\n' "$rank" \
		    "$got" "$want" "$([ "$got" = "$want" ] || echo ': WRONG')"
	done | tee "$work/table"
	rm -rf "$DSI_CACHE"
	! grep -q WRONG "$work/table"
}

[ $# -gt 0 ] || set -- "16 1 1" "4 4 4"
first=
for layout; do
	# shellcheck disable=SC2086
	rehearse $layout || { echo "rehearsal of $layout failed"; exit 1; }
	name=$work/got.$(echo "$layout" | tr ' ' .)
	cmp "${first:=$name}" "$name" || exit 1
done
echo 'all layouts gave the same bytes'
