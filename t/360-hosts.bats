# Worlds over two hosts, with the flags of the tutorial as they are written.
# shellcheck shell=bash

load lib
load hosts

# what every command of the tutorial has
SERVE=(--model="$DEMO" --trust-remote-code --max-num-seqs=256
    --max-num-batched-tokens=4096 --block-size=128
    --gpu-memory-utilization=0.9)

# Enough for all DP groups to have something, of unequal length.
requests() {
	local i long=''
	for i in {1..30}; do
		long+='What is 12 + 30? '
		printf '{"prompt":"%sWhat is %d + %d?","max_tokens":%d,' \
		    "${long:0:i*i}" "$i" "$((i * 7))" "$((4 + i % 9))"
		printf '"temperature":0,"logprobs":1}\n'
	done
	printf '{"prompt":"I am","max_tokens":20,"temperature":0,%s}\n' \
	    '"top_p":1.0,"top_k":1,"repetition_penalty":1.0'
	printf '{"messages":[{"role":"user","content":"%s"}],%s}\n' \
	    "What is 3 * 4?" '"max_tokens":24,"temperature":0.8,"seed":1'
}

setup_file() {
	export BATS_TEST_TIMEOUT=120
	export DSI_CACHE=$BATS_FILE_TMPDIR/cache
	requests >"$BATS_FILE_TMPDIR/in"
	dsi-gen --jsonl "$DEMO" <"$BATS_FILE_TMPDIR/in" \
	    >"$BATS_FILE_TMPDIR/want"
}

setup() {
	export DSI_CACHE=$BATS_FILE_TMPDIR/cache
	cd "$BATS_TEST_TMPDIR" || return 1
	touch .began
	ln -s "$BATS_FILE_TMPDIR/in" "$BATS_FILE_TMPDIR/want" .
	hosts_open
}

teardown() {
	hosts_close
}

# node_b FLAGS...: hostb's part, in the background; its pid in $B_PID
node_b() {
	(on b dsi-serve --headless "$@" >b.out 2>b.err) &
	B_PID=$!
}

# both_well HEAD_STATUS: the head ended so, and hostb's part without a word
both_well() {
	[ "$1" = 0 ] || {
		cat a.err b.err
		return 1
	}
	wait "$B_PID"
	[ ! -s b.out ]
	nothing_left
}

# quiet FILE: nothing in it but of rank files being made, once, and of groups
# that are no worlds of their own here
quiet() {
	! grep -v -e ': sharding ' -e ': waiting for another run ' \
	    -e 'over several nodes: one world in lockstep' "$1"
}

@test "the tutorial's TP16, as written: ray is mp, 16 ranks share memory" {
	local data=0 pid kb
	export MINDFORMERS_MODEL_CONFIG=$DSI_TOP/t/conf/tp16.yaml
	mkfifo fifo
	(on a dsi-serve "${SERVE[@]}" --max_model_len=32768 \
	    --tensor-parallel-size 16 --distributed-executor-backend=ray \
	    <fifo >got 2>a.err) &
	exec 5>fifo
	until_true 30 grep -q ready: a.err
	for pid in $(marked); do
		kb=$(awk '$1 == "VmData:" { print $2 }' "/proc/$pid/status")
		data=$((data + kb))
	done
	cat in >&5
	exec 5>&-
	wait $!
	same got want
	grep -q 'ray: there is no Ray here; mp is used' a.err
	grep -q 'ready: 16 ranks on 1 host, tp16 dp1 pp1 ep1, context of 32768' \
	    a.err
	# all the cache that 16 ranks have mapped is within 0.9 of what is there
	[ $data -gt 0 ]
	awk -v kb=$data '$1 == "MemTotal:" { exit kb > 0.9 * $2 + 16 * 1e5 }' \
	    /proc/meminfo
	nothing_left
}

@test "the tutorial's TP16 with random weights, from a config.json alone" {
	export MINDFORMERS_MODEL_CONFIG=$DSI_TOP/t/conf/tp16.yaml
	mkdir dummy
	cp "$DEMO/config.json" dummy
	jq -c '{prompt: [5, 6, 7, .max_tokens], max_tokens: 5, logprobs: 1,
	    temperature: 0}' <in >ids
	(on a dsi-serve "${SERVE[@]}" --max_model_len=32768 --model=dummy \
	    --load-format dummy --tensor-parallel-size 16 \
	    --distributed-executor-backend=ray <ids >got 2>a.err)
	unset MINDFORMERS_MODEL_CONFIG
	dsi-gen --jsonl --load-format dummy dummy <ids >one 2>/dev/null
	same got one
	nothing_left
}

DP4=("${SERVE[@]}" --max-model-len=32768 --tensor-parallel-size 4
    --data-parallel-size 4 --data-parallel-size-local 2
    --data-parallel-address 192.10.10.10 --data-parallel-rpc-port 12370
    --enable-expert-parallel)

@test "the tutorial's DP4TP4EP4 on two hosts, as written: the other node first" {
	export MINDFORMERS_MODEL_CONFIG=$DSI_TOP/t/conf/dp4tp4ep4.yaml
	local rc=0
	node_b "${DP4[@]}" --data-parallel-start-rank 2
	until_true 10 rank_pid b top
	(on a dsi-serve "${DP4[@]}" --data-parallel-start-rank 0 \
	    <in >got 2>a.err) || rc=$?
	both_well $rc
	same got want
	quiet b.err
	grep -q 'ready: 16 ranks on 2 hosts, tp4 dp4 pp1 ep4' a.err
}

# ticks: what all processes of the hosts have used, in hundredths of a second
ticks() {
	local pid
	for pid in $(marked); do
		cat "/proc/$pid/stat"
	done | sed 's/.*) //' | awk '{ n += $12 + $13 } END { print n + 0 }'
}

@test "the same with the head first; with nothing to do under 1 % of a core" {
	export MINDFORMERS_MODEL_CONFIG=$DSI_TOP/t/conf/dp4tp4ep4.yaml
	local rc=0 t0 t1
	mkfifo fifo
	(on a dsi-serve "${DP4[@]}" --data-parallel-start-rank 0 \
	    <fifo >got 2>a.err) &
	A_PID=$!
	exec 5>fifo
	until_true 10 rank_pid a 7
	node_b "${DP4[@]}" --data-parallel-start-rank 2
	until_true 30 grep -q ready: a.err
	t0=$(ticks)
	sleep 10
	t1=$(ticks)
	echo "$((t1 - t0)) hundredths of a second in 10 s"
	# 16 ranks, of which dsi-gen is one, and the parent of eight
	[ "$(marked | wc -l)" = 17 ]
	[ $((t1 - t0)) -lt 10 ]
	cat in >&5
	exec 5>&-
	wait "$A_PID" || rc=$?
	both_well $rc
	same got want
	quiet b.err
}

# over_two FLAGS...: the same on both nodes, but for which they are
over_two() {
	local rc=0 both=(--nnodes 2 --master-addr "$HOSTS_IP" "$@")
	node_b "${both[@]}" --node-rank 1 "$DEMO"
	(on a dsi-gen --jsonl "${both[@]}" --node-rank 0 "$DEMO" \
	    <in >got 2>a.err) || rc=$?
	both_well $rc
	quiet a.err
	quiet b.err
}

@test "a pipeline and tensors over two hosts: PP2, PP2TP2, TP4, DP2TP2EP4" {
	over_two --pipeline-parallel-size 2
	same got want
	over_two --pipeline-parallel-size 2 --tensor-parallel-size 2
	same got want
	over_two --tensor-parallel-size 4
	same got want
	over_two --tensor-parallel-size 2 --data-parallel-size 2 \
	    --enable-expert-parallel
	same got want
	over_two --data-parallel-size 2
	same got want
	grep -q 'one world in lockstep, each expert cut over 2 ranks' b.err
}

@test "the interface can be named; engine options reach all ranks" {
	local flags=(--max-num-batched-tokens=40 --block-size=16
	    --kv-cache-dtype=float32 --dtype=bfloat16 --max-num-seqs=5
	    --max-model-len=1000 --num-blocks=400 --threads=1)
	dsi-gen --jsonl "${flags[@]}" "$DEMO" <in >want1
	export TP_SOCKET_IFNAME=eth0
	over_two "${flags[@]}" --tensor-parallel-size 4
	same got want1
}

@test "a context longer than the model's is refused before anything starts" {
	run -100 on a dsi-serve "${SERVE[@]}" --max-model-len=32769 </dev/null
	one_line dsi-gen
	has '--max-model-len 32769 is more than the model'
}

@test "whoever is missing is named after 5 s, and at the deadline" {
	local a=0 b=0
	# the head lacks hostb; on another port hostb lacks its head
	(on a dsi-serve "${DP4[@]}" --data-parallel-start-rank 0 \
	    --join-timeout 6 </dev/null 2>a.err) &
	A_PID=$!
	node_b "${DP4[@]}" --data-parallel-start-rank 2 --join-timeout 6 \
	    --data-parallel-rpc-port 12371
	wait "$A_PID" || a=$?
	wait "$B_PID" || b=$?
	cat a.err b.err
	grep -q 'dsi-gen: still waiting for ranks 8-15 after 5 s' a.err
	grep -q 'dsi-gen: ranks 8-15 did not join within 6 s' a.err
	grep -q 'waiting for the lead at 192.10.10.10:12371 (.*) after 5' b.err
	grep -q 'lead at 192.10.10.10:12371 did not answer within 6 s' b.err
	[ "$(quiet a.err | wc -l)" = 2 ]
	[ "$(quiet b.err | wc -l)" = 2 ]
	[ $a = 111 ]
	[ $b = 111 ]
	nothing_left
}
