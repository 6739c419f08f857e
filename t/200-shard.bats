# dsi-shard: a model directory becomes rank files.
# shellcheck shell=bash

load lib

@test "the demo model: made, verified, and left alone the second time" {
	run -0 dsi-shard -o ranks "$DEMO"
	[[ -s ranks/manifest.json && -s ranks/rank-00000/layer-003.safetensors ]]
	[[ -s ranks/rank-00000/mtp-0.safetensors && -s ranks/tokenizer.json ]]
	run -0 dsi-shard --verify ranks
	run -0 dsi-shard -o ranks "$DEMO"
	has complete
}

@test "--verify finds a flipped byte and a missing file (1)" {
	dsi-shard -o ranks "$DEMO"
	printf '\xff' | dd of=ranks/rank-00000/layer-001.safetensors bs=1 \
	    seek=70000 conv=notrunc status=none
	rm ranks/rank-00000/head.safetensors
	run -1 dsi-shard --verify ranks
	has layer-001
	has head
}

@test "every layout of the fixtures is recognised" {
	for f in "$DSI_TOP"/t/fixtures/*/; do
		run -0 dsi-shard -o "r-$(basename "$f")" "$f"
	done
	grep -o '"layout":"[^"]*"' r-*/manifest.json | sort -u -t: -k3 >seen
	[[ $(wc -l <seen) -ge 6 ]]
}

@test "killed at any moment, it goes on and ends with the same bytes" {
	local conf=$BATS_TEST_TMPDIR/config.json
	sed 's/"hidden_size": [0-9]*/"hidden_size": 1024/;
	    s/"moe_intermediate_size": [0-9]*/"moe_intermediate_size": 512/;
	    s/"num_hidden_layers": [0-9]*/"num_hidden_layers": 12/' \
	    "$DEMO/config.json" >"$conf"
	dsi-shard --load-format dummy -o whole "$conf"
	local n=0
	while :; do
		dsi-shard --load-format dummy -o part "$conf" 2>err 3>&- &
		local pid=$!
		sleep "0.$((RANDOM % 3))$((RANDOM % 10))"
		if kill -9 $pid 2>/dev/null; then
			wait $pid || true
		else
			wait $pid && break
		fi
		[[ $((++n)) -lt 200 ]]
	done
	[[ $n -ge 1 ]]
	diff -r whole part
	dsi-shard --verify part
}

@test "the same random weights in every layout" {
	dsi-shard -n --load-format dummy --tensor-parallel-size 4 "$DEMO/config.json" >plan
	[[ $(cut -f 1 plan | sort -u | wc -l) == 4 ]]
	dsi-shard --load-format dummy --tensor-parallel-size 4 -o four "$DEMO/config.json"
	while IFS=$'\t' read -r _ bytes path; do
		[[ $(stat -c %s "four/$path") == "$bytes" ]]
	done <plan
}

@test "a disk that is too small is said before any work (111)" {
	mkdir small
	mount -t tmpfs -o size=1m none small 2>/dev/null || skip "needs mount"
	run -111 dsi-shard -o small/ranks "$DEMO"
	one_line dsi-shard
	[[ ! -e small/ranks/rank-00000/layer-000.safetensors ]]
	umount small
}

@test "a model that can't be is one line (100)" {
	cp -r "$DSI_TOP/t/fixtures/v3-bf16" m
	chmod -R u+w m
	truncate -s -100 m/model.safetensors
	run -100 dsi-shard -o out m
	one_line dsi-shard
	has model.safetensors
	sed -i 's/"vocab_size": [0-9]*/"vocab_size": 5000/' m/config.json
	cp "$DSI_TOP/t/fixtures/v3-bf16/model.safetensors" m/
	run -100 dsi-shard -o out m
	one_line dsi-shard
	has embed_tokens
	[[ ! -e out/rank-00000 ]]
}

@test "a layout that can't be names the numbers (100)" {
	run -100 dsi-shard --tensor-parallel-size 3 -o out "$DEMO"
	one_line dsi-shard
	has 16
	has 3
	run -100 dsi-shard --tensor-parallel-size 0 -o out "$DEMO"
	has tensor-parallel-size
	run -100 dsi-shard "$DEMO"
	run -100 dsi-shard -o out /nonexistent
	one_line dsi-shard
}

@test "--quantize int8 makes W8A8 that answers alike" {
	dsi-shard --quantize int8 -o q "$DSI_TOP/t/fixtures/v3-fp8-block"
	echo '{"prompt":[0,5,9,12],"max_tokens":4,"temperature":0,"ignore_eos":true}' |
	    dsi-gen --jsonl q >out
	[[ $(jq '.choices[0].token_ids | length' out) == 4 ]]
	[[ $(du -sb q | cut -f 1) -lt $(du -sb "$DSI_TOP/t/fixtures/v3-bf16" | cut -f 1) ]]
}
