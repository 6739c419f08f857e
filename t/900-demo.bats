# The whole on the demo model: what the README says of it.
# shellcheck shell=bash

load lib

@test "W8A8 answers at least 480 of the 500 questions" {
	run -0 --separate-stderr sh "$DSI_TOP/share/demo/score.sh"
	echo "$output"
	[[ $output == *' of 500' ]]
	[[ ${output%% *} -ge 480 ]]
}

@test "10,000 prompts run in steady memory" {
	dsi-shard -o ranks "$DEMO"
	# peak resident KiB of a run over $1 prompts
	peak() {
		awk -v n="$1" 'BEGIN { for (i = 0; i < n; i++)
			printf "%d+%d=\n", i % 997, i % 89 }' >in
		dsi-gen --chat --max-tokens 24 --max-model-len 1024 \
		    --num-blocks 1024 ranks <in >out 3>&- &
		local pid=$! kib=0 now
		while now=$(awk '/VmHWM/ { print $2 }' /proc/$pid/status 2>/dev/null) &&
		    [[ $now ]]; do
			kib=$now
			sleep 0.1
		done
		wait $pid
		echo "$kib"
	}
	local few many
	few=$(peak 2000)
	many=$(peak 10000)
	echo "2,000: $few KiB; 10,000: $many KiB"
	[[ $few -gt 0 && $many -lt $((few + few / 10 + 4096)) ]]
}

@test "its logprobs are the reference's, its greedy tokens the same" {
	"$B/t/helper/ref" requests "$DSI_TOP/t/demo/reference.safetensors" |
	    dsi-gen --jsonl --kv-cache-dtype float32 "$DEMO" 2>/dev/null >out
	run -0 "$B/t/helper/ref" compare "$DSI_TOP/t/demo/reference.safetensors" <out
	echo "$output"
	[[ $output == *'greedy 180/180' ]]
	read -r _ _ _ median _ <<<"$output"
	awk -v m="$median" 'BEGIN { exit !(m <= 1e-4) }'
}
