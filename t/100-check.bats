# dsi-check: a deployment is checked, and planned, before it starts.
# shellcheck shell=bash

load lib

setup() {
	cd "$BATS_TEST_TMPDIR" || return 1
	# R1's shape; its own config.json has the same numbers
	cat >r1.json <<-'END'
	{"model_type": "deepseek_v3", "hidden_size": 7168, "vocab_size": 129280,
	"num_hidden_layers": 61, "num_attention_heads": 128,
	"num_key_value_heads": 128, "num_nextn_predict_layers": 1,
	"q_lora_rank": 1536, "kv_lora_rank": 512, "qk_nope_head_dim": 128,
	"qk_rope_head_dim": 64, "v_head_dim": 128, "intermediate_size": 18432,
	"moe_intermediate_size": 2048, "n_routed_experts": 256,
	"n_shared_experts": 1, "num_experts_per_tok": 8, "n_group": 8,
	"topk_group": 4, "first_k_dense_replace": 3, "moe_layer_freq": 1,
	"scoring_func": "sigmoid", "topk_method": "noaux_tc",
	"norm_topk_prob": true, "routed_scaling_factor": 2.5,
	"rms_norm_eps": 1e-06, "rope_theta": 10000,
	"max_position_embeddings": 163840, "hidden_act": "silu",
	"tie_word_embeddings": false, "attention_bias": false,
	"bos_token_id": 0, "eos_token_id": 1, "torch_dtype": "bfloat16",
	"quantization_config": {"quant_method": "fp8"}}
	END
}

YAML=$DSI_TOP/t/conf
DP4TP4EP4=(--tensor-parallel-size 4 --data-parallel-size 4
    --expert-parallel-size 4)
COMMON=(--trust-remote-code --max-num-seqs=256 --max-num-batched-tokens=4096
    --block-size=128 --gpu-memory-utilization=0.9)

# sums ARG...: "rank bytes" as dsi-shard -n has them
sums() {
	dsi-shard -n "$@" | awk '{ n[$1] += $2 }
	    END { for (r in n) printf "%d %.0f\n", r, n[r] }' | sort -n
}

# planned ARG...: the same from dsi-check
planned() {
	dsi-check --json "$@" | jq -r '.ranks[] | "\(.rank) \(.weight_bytes)"'
}

@test "the tutorial's TP16 command, ray and all" {
	export MINDFORMERS_MODEL_CONFIG=$YAML/tp16.yaml
	run -0 --separate-stderr dsi-check --model="$DEMO" "${COMMON[@]}" \
	    --max_model_len=32768 --tensor-parallel-size 16 \
	    --distributed-executor-backend=ray
	has "16 ranks: tensor 16, data 1, pipeline 1, expert 1"
	[[ $stderr == *"no Ray here"* && $stderr != *$'\n'* ]]
}

@test "the tutorial's DP4TP4EP4 commands, on both nodes" {
	export MINDFORMERS_MODEL_CONFIG=$YAML/dp4tp4ep4.yaml
	local both=(--model="$DEMO" "${COMMON[@]}" --max-model-len=32768
	    --tensor-parallel-size 4 --data-parallel-size 4
	    --data-parallel-size-local 2 --data-parallel-address 192.10.10.10
	    --data-parallel-rpc-port 12370 --enable-expert-parallel)
	run -0 --separate-stderr dsi-check "${both[@]}" --strict \
	    --data-parallel-start-rank 0
	has "tensor 4, data 4, pipeline 1, expert 4"
	has "node     0 of 2 runs 8 of the ranks; lead 192.10.10.10:12370"
	[[ -z $stderr ]]
	dsi-check "${both[@]}" --headless --data-parallel-start-rank 2 \
	    --json >other
	[[ $(jq -c '[.ranks[] | select(.local) | .rank]' other) == \
	    "[8,9,10,11,12,13,14,15]" ]]
	[[ $(jq -c '.ranks[6] | [.dp, .tp, .ep, .heads, .experts]' other) == \
	    "[1,2,1,4,4]" ]]
}

@test "R1 is answered in a second, from config.json alone" {
	local start=${EPOCHREALTIME/./}
	dsi-check --json --quantization ascend --tensor-parallel-size 16 \
	    r1.json >tp16
	dsi-check --json --quantization ascend "${DP4TP4EP4[@]}" r1.json >dp4
	[[ $((${EPOCHREALTIME/./} - start)) -lt 2000000 ]]
	[[ $(jq -c '[.world_size, .worlds, .fits, .ranks[15].heads,
	    .ranks[15].experts, .ranks[15].expert_width,
	    .ranks[15].kv_bytes_per_token]' tp16) == \
	    "[16,1,null,8,256,128,70272]" ]]
	[[ $(jq -c '.ranks[6] | [.heads, .experts, .expert_width]' dp4) == \
	    "[32,64,512]" ]]
	sums --load-format dummy --quantize int8 "${DP4TP4EP4[@]}" r1.json >want
	planned --quantization ascend "${DP4TP4EP4[@]}" r1.json >got
	same want got
}

@test "the real YAML and config.json, where they are" {
	local ref=${DSI_SHARED:-$DSI_TOP/../shared}/reference
	[[ -e $ref/deepseek-r1.config.json ]] || skip "not in this checkout"
	export MINDFORMERS_MODEL_CONFIG
	for y in "$ref"/yaml/*.yaml; do
		MINDFORMERS_MODEL_CONFIG=$y
		run -0 --separate-stderr dsi-check --strict \
		    "$ref/deepseek-r1.config.json"
		[[ -z $stderr ]]
	done
	MINDFORMERS_MODEL_CONFIG=$ref/yaml/predict_deepseek_r1_671b_w8a8.yaml
	run -0 dsi-check "$ref/deepseek-r1.config.json"
	has "int8 (quantization_config of the YAML)"
}

@test "weights are dsi-shard's to the byte: demo and fixtures" {
	local n=0
	for m in "$DEMO" "$DSI_TOP"/t/fixtures/*/; do
		for l in "" "--pipeline-parallel-size 2" \
		    "--data-parallel-size 2 --enable-expert-parallel" \
		    "--tensor-parallel-size 4" \
		    "--tensor-parallel-size 4 --data-parallel-size 2 --pipeline-parallel-size 2 --expert-parallel-size 2"; do
			# shellcheck disable=SC2086 # a list of flags
			dsi-shard -n $l "$m" >/dev/null 2>&1 || continue
			# shellcheck disable=SC2086
			sums $l "$m" >want
			# shellcheck disable=SC2086
			planned $l "$m" >got
			same want got
			n=$((n + 1))
		done
	done
	[[ $n -ge 30 ]]
}

@test "rank files: their own layout, or the one that they have (100)" {
	dsi-shard -o ranks --tensor-parallel-size 4 "$DEMO"
	run -0 dsi-check ranks
	has "4 ranks: tensor 4"
	planned ranks >got
	sums --tensor-parallel-size 4 "$DEMO" >want
	same want got
	run -100 dsi-check --tensor-parallel-size 2 ranks
	one_line dsi-check
	has "made for tensor 4"
	has "not for tensor 2"
	truncate -s -64 ranks/rank-00002/layer-001.safetensors
	run -100 dsi-check ranks
	one_line dsi-check
	has "rank-00002/layer-001.safetensors has"
	rm ranks/rank-00002/layer-001.safetensors
	run -100 dsi-check ranks
	has "layer-001.safetensors: No such file"
}

@test "too little memory is an honest no (1), with what would do" {
	local flags=(--tensor-parallel-size 16 --quantization int8 --nnodes 2
	    --master-addr x --max-model-len 32768)
	run -0 dsi-check "${flags[@]}" --memory-per-host 512G r1.json
	has "fits: a rank has 57.60 GiB (0.9 of 512.0 GiB over 8)"
	run -1 dsi-check "${flags[@]}" --memory-per-host 256G r1.json
	has "does not fit: rank 0 needs 45."
	has "for a host"
	has "on 4 such hosts"
	run -1 dsi-check --json --memory-per-rank 1M "$DEMO"
	[[ $(jq .fits <<<"$output") == false ]]
}

@test "DP without EP is several worlds" {
	dsi-check --json --data-parallel-size 2 --tensor-parallel-size 2 \
	    "$DEMO" >out
	[[ $(jq -c '[.world_size, .worlds, .layout.dp, .ranks[3].world,
	    .ranks[3].dp, .ranks[3].experts]' out) == "[4,2,2,1,1,16]" ]]
}

@test "what is wrong is one line (100), before any weight is looked at" {
	mkdir m
	cp "$DEMO/config.json" m
	echo garbage >m/model.safetensors
	while read -r flags; do
		# shellcheck disable=SC2086 # a list of flags
		run -100 dsi-check $flags m
		one_line dsi-check
	done <<-'END'
	--tensor-parallel-size 3
	--tensor-parallel-size 4 --expert-parallel-size 3
	--block-size 100
	--max-model-len 1000000
	--headless
	--additional-config {"expert_paralel":4}
	--mindformers-config nowhere.yaml
	--distributed-executor-backend slurm
	--kv-cache-dtype int8
	--no-such-flag
	--tensor-paralel-size 4
	END
	has "--tensor-parallel-size"
	sed 's/model_parallel: 4/model_paralel: 4/' "$YAML/dp4tp4ep4.yaml" >bad.yaml
	run -100 dsi-check --mindformers-config bad.yaml m
	one_line dsi-check
	has "bad.yaml:14: parallel_config.model_paralel is unknown"
}

@test "another model's YAML: a notice, or with --strict an error (100)" {
	sed 's/num_layers: 4/num_layers: 61/' "$YAML/tp16.yaml" >r1.yaml
	run -0 dsi-check --mindformers-config r1.yaml "$DEMO"
	has "r1.yaml describes another model than $DEMO/config.json, which is used: num_layers 61 (line 33) for num_hidden_layers 4"
	run -100 dsi-check --strict --mindformers-config r1.yaml "$DEMO"
	one_line dsi-check
}

@test "weights that are not what --quantization says (100)" {
	run -100 dsi-check --quantization ascend "$DSI_TOP/t/fixtures/v3-bf16"
	one_line dsi-check
	has "--quantization int8 makes int8 of them"
	run -0 dsi-check --quantization ascend \
	    "$DSI_TOP/t/fixtures/v3-w8a8-modelslim"
	has "modelslim (published)"
	run -0 dsi-check --quantization int8 "$DSI_TOP/t/fixtures/v3-bf16"
	has "made int8"
}

@test "interface and places come from the environment" {
	export HCCL_SOCKET_IFNAME=enp1 ASCEND_RT_VISIBLE_DEVICES=0,1,4-7
	[[ $(dsi-check --json "$DEMO" | jq -c '.node |
	    [.interface, .places]') == '["enp1",[0,1,4,5,6,7]]' ]]
	export DSI_SOCKET_IFNAME=eth0 ASCEND_RT_VISIBLE_DEVICES=0,0
	run -100 dsi-check "$DEMO"
	has "ASCEND_RT_VISIBLE_DEVICES must be a list"
}
