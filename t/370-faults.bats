# What goes wrong in a world of two hosts ends in one line on each, in time, and
# leaves nothing behind.
# shellcheck shell=bash

load lib
load hosts

# Ranks 0 and 1 are on hosta, 2 and 3 on hostb.
FLAGS=(--nnodes 2 --master-addr 192.10.10.10 --tensor-parallel-size 4
    --max-num-seqs 8 --num-blocks 300 --alive-timeout 2)
ASK='{"prompt":"What is 12 + 30?","max_tokens":9,"temperature":0}'
LONG='{"prompt":"I","max_tokens":9000,"ignore_eos":true,"temperature":0}'

setup_file() {
	export BATS_TEST_TIMEOUT=60
	export DSI_CACHE=$BATS_FILE_TMPDIR/cache
	# made once, so that no test has to wait for it
	dsi-gen --jsonl --tensor-parallel-size 4 "$DEMO" <<<"$ASK" \
	    >"$BATS_FILE_TMPDIR/want"
}

setup() {
	export DSI_CACHE=$BATS_FILE_TMPDIR/cache
	cd "$BATS_TEST_TMPDIR" || return 1
	touch .began
	hosts_open
}

teardown() {
	ip -n "$HOST_A" link set eth0 up 2>/dev/null || :
	hosts_close
}

# head FLAGS...: hosta's part in the background; fd 5 is its input
head_up() {
	rm -f fifo
	mkfifo fifo
	(on a dsi-serve "${FLAGS[@]}" --node-rank 0 "$@" <fifo >got 2>a.err) &
	A_PID=$!
	exec 5>fifo
}

node_up() {
	(on b dsi-serve --headless "${FLAGS[@]}" --node-rank 1 "$@" \
	    2>b.err >&2) &
	B_PID=$!
}

world_up() {
	head_up "$DEMO"
	node_up "$DEMO"
	until_true 30 grep -q ready: a.err
}

# answers: the world works; its input ends, and it goes in peace
answers() {
	echo "$ASK" >&5
	exec 5>&-
	wait "$A_PID"
	wait "$B_PID"
	same got "$BATS_FILE_TMPDIR/want"
	nothing_left
}

# line FILE PROGRAM TEXT: it has exactly this one line, ready and the like aside
line() {
	local got
	got=$(grep -v -e ': ready: ' -e ': sharding ' "$1") || :
	[[ $got == "$2: "*"$3"* && $got != *$'\n'* ]] || {
		printf '%s: want one line "%s: ...%s...", got:\n%s\n' "$@" \
		    "$got"
		return 1
	}
}

# ends MS A_STATUS B_STATUS: both parts end so, in that time from began
began() {
	T0=${EPOCHREALTIME/./}
}

ends() {
	local a=0 b=0 ms
	wait "$A_PID" || a=$?
	wait "$B_PID" || b=$?
	ms=$(((${EPOCHREALTIME/./} - T0) / 1000))
	exec 5>&-
	if [ "$a $b" != "$2 $3" ] || [ $ms -ge "$1" ]; then
		echo "want $2 and $3 within $1 ms; got $a and $b after $ms ms"
		cat a.err b.err
		return 1
	fi
	nothing_left
}

@test "kill -9 of a rank, idle: of the other node, of the lead's" {
	local r
	for r in 3:b 1:a; do
		world_up
		began
		kill -9 "$(rank_pid "${r#*:}" "${r%:*}")"
		ends 2000 111 111
		line a.err dsi-gen "rank ${r%:*} on host${r#*:} died: killed by signal 9 (Killed)"
		line b.err dsi-worker "rank ${r%:*} on host${r#*:} died: killed by signal 9 (Killed)"
	done
}

@test "kill -9 of a rank in the middle of a request" {
	local r
	for r in 2:b 1:a; do
		world_up
		echo "$LONG" >&5
		sleep 0.2
		began
		kill -9 "$(rank_pid "${r#*:}" "${r%:*}")"
		ends 2000 111 111
		line a.err dsi-gen "rank ${r%:*} on host${r#*:} died: killed by signal 9 (Killed)"
		line b.err dsi-worker "rank ${r%:*} on host${r#*:} died: killed by signal 9 (Killed)"
	done
}

@test "kill -9 of the lead: its ranks go with it, the other node says so" {
	world_up
	echo "$LONG" >&5
	sleep 0.2
	began
	kill -9 "$A_PID"
	ends 2000 137 111
	line b.err dsi-worker "rank 0 on hosta died"
}

@test "kill -9 of the other node's dsi-worker: its ranks go with it" {
	world_up
	began
	kill -9 "$B_PID"
	ends 2000 111 137
	line a.err dsi-gen "on hostb died"
}

@test "a rank that stands still: of the other node, of the lead's" {
	local r
	for r in 3:b 1:a; do
		world_up
		echo "$LONG" >&5
		sleep 0.2
		began
		kill -STOP "$(rank_pid "${r#*:}" "${r%:*}")"
		ends 5500 111 111
		line a.err dsi-gen "rank ${r%:*} on host${r#*:}: no sign of life for 2 s"
		line b.err dsi-worker "rank ${r%:*} on host${r#*:}: no sign of life for 2 s"
	done
}

@test "a lead that stands still: the others leave, and so does it when it wakes" {
	world_up
	began
	kill -STOP "$A_PID"
	until_true 5 grep -q . b.err
	line b.err dsi-worker "rank 0 on hosta: no sign of life for 2 s"
	kill -CONT "$A_PID"
	ends 7000 111 111
	line a.err dsi-gen "rank "
}

@test "the network goes down: both sides say whom they lost" {
	world_up
	echo "$LONG" >&5
	sleep 0.2
	began
	ip -n "$HOST_A" link set eth0 down
	ends 6000 111 111
	line a.err dsi-gen "on hostb: no sign of life for 2 s"
	line b.err dsi-worker "rank 0 on hosta: no sign of life for 2 s"
}

@test "Ctrl-C and SIGTERM at the head: all go in peace" {
	local s
	for s in INT TERM; do
		world_up
		began
		kill -$s -- "-$A_PID"
		ends 2000 1 0
		grep -c . a.err | grep -qx 1
		[ ! -s b.err ]
	done
}

@test "Ctrl-C and SIGTERM at the other node: it says so, and so does the head" {
	local s
	for s in INT:2 TERM:15; do
		world_up
		began
		kill "-${s%:*}" -- "-$B_PID"
		ends 2000 111 0
		line a.err dsi-gen "on hostb died: stopped by signal ${s#*:}"
		line b.err dsi-worker "stopped by signal ${s#*:}"
	done
}

@test "signals while the world is not complete" {
	head_up "$DEMO"
	node_up --master-port 29999 "$DEMO"
	until_true 10 rank_pid a 1
	began
	kill -TERM -- "-$A_PID" "-$B_PID"
	ends 2000 143 143
}

@test "another node with other flags or files is refused on both, then may come" {
	local b=0
	dsi-shard -o other --tensor-parallel-size 4 --quantization=none \
	    "$DEMO" 2>/dev/null || dsi-shard -o other \
	    --tensor-parallel-size 4 --load-format dummy "$DEMO"
	head_up "$DEMO"
	until_true 10 rank_pid a 1
	node_up --block-size 64 "$DEMO"
	wait "$B_PID" || b=$?
	[ $b = 100 ]
	line b.err dsi-worker "blocks of 128 in bfloat16 at the lead, tp4"
	line b.err dsi-worker "blocks of 64"
	grep -q "refused: layout tp4 .* at rank [23] on hostb" a.err
	node_up other
	b=0
	wait "$B_PID" || b=$?
	[ $b = 100 ]
	line b.err dsi-worker "model "
	node_up "$DEMO"
	until_true 20 grep -q ready: a.err
	answers
	[ "$(grep -c refused: a.err)" -le 2 ]
}

# say PORT: what comes in goes there, from hostb; the connection is kept
say_to() {
	(on b bash -c "exec 6<>/dev/tcp/192.10.10.10/$1; cat >&6; cat <&6" \
	    >/dev/null 2>&1) &
}

@test "strangers at the port, silent, garbled or lying, do not disturb" {
	head_up "$DEMO"
	until_true 10 rank_pid a 1
	printf 'DSIC\11\0\1\0\0\0\0\0' | say_to 29550
	until_true 5 grep -q 'refused: protocol 1 at the lead, 9' a.err
	say_to 29550 </dev/null
	say_to 29550 <<<"GET / HTTP/1.1"
	head -c 100000 /dev/urandom | say_to 29550
	# a hello of 4 GiB, one that cannot be, one that is cut off
	printf 'DSIC\1\0\1\0\377\377\377\377' | say_to 29550
	printf 'DSIC\1\0\1\0\10\0\0\0abcdefgh' | say_to 29550
	printf 'DSIC\1\0\1\0\10\0\0\0abc' | say_to 29550
	node_up "$DEMO"
	until_true 20 grep -q ready: a.err
	answers
}

@test "a port in use, an address of another host" {
	head_up "$DEMO"
	until_true 10 rank_pid a 1
	run -111 on a dsi-serve "${FLAGS[@]}" --node-rank 0 "$DEMO" </dev/null
	one_line dsi-gen
	has 'listen on 192.10.10.10 port 29550: Address already in use'
	run -100 on a dsi-serve "${FLAGS[@]}" --master-addr 192.10.10.99 \
	    --node-rank 0 "$DEMO" </dev/null
	one_line dsi-gen
	has 'listen on 192.10.10.99 port 29550'
	run -111 on b dsi-serve --headless "${FLAGS[@]}" --node-rank 1 \
	    --master-addr 192.10.10.99 --join-timeout 1 "$DEMO"
	one_line dsi-worker
	has 'the lead at 192.10.10.99:29550 did not answer within 1 s'
	kill -9 "$A_PID"
	wait "$A_PID" || :
	nothing_left
}

@test "rank files that one host lacks: rank, file and host are named" {
	dsi-shard -o ranks --tensor-parallel-size 4 "$DEMO" 2>/dev/null
	cp -r ranks b
	rm b/rank-00003/*.safetensors
	head_up ranks
	node_up b
	began
	ends 4000 111 100
	line a.err dsi-gen "rank 3 on hostb gave up: "
	line b.err dsi-worker "rank 3 on hostb gave up: "
	grep -q 'b/rank-00003/.*safetensors.*No such file' a.err
	grep -q 'b/rank-00003/.*safetensors.*No such file' b.err
}

# A dsi-worker that does WHAT in place of rank N; the supervisor is dsi-node.
broken_worker() {
	mkdir bin
	cp "$(command -v dsi-gen)" bin
	cp "$(command -v dsi-worker)" bin/dsi-node
	cat >bin/dsi-worker <<-END
	#!/bin/sh
	case \$* in *--rank=$1*) $2 ;; esac
	exec -a dsi-worker "$PWD/bin/dsi-node" "\$@"
	END
	sed -i 's/exec -a dsi-worker/exec/' bin/dsi-worker
	chmod +x bin/dsi-worker
}

@test "the last words on stderr of a rank that dies before it has joined" {
	local rc=0
	broken_worker '[13]' 'echo one >&2
	    until [ -e go ]; do sleep 0.05; done
	    echo "out of cheese" >&2
	    kill -ABRT $$'
	(on a bin/dsi-gen --jsonl "${FLAGS[@]}" --node-rank 0 "$DEMO" \
	    <<<"$ASK" >got 2>a.err) &
	A_PID=$!
	node_up "$DEMO" 5</dev/null
	until_true 10 rank_pid b 3
	until_true 5 grep -q 'rank 1: one$' a.err
	sleep 0.5			# for hostb's ranks to have joined
	began
	: >go
	exec 5</dev/null
	ends 2000 111 111
	grep -v '^dsi-gen: rank 1: one$' a.err >rest
	line rest dsi-gen "rank 1 on hosta died: killed by signal 6 (Aborted): out of cheese"
	line b.err dsi-worker "rank 1 on hosta died: killed by signal 6 (Aborted): out of cheese"
	# on the other node: it says so, the head goes on waiting
	head_up "$DEMO"
	(on b bin/dsi-node --headless "${FLAGS[@]}" --node-rank 1 "$DEMO" \
	    2>b.err) || rc=$?
	[ $rc = 111 ]
	grep -q 'rank 3 on hostb died: .*out of cheese' b.err
	kill -0 "$A_PID"
	node_up "$DEMO"
	until_true 20 grep -q ready: a.err
	answers
}

@test "two worlds of one head: a rank of the second dies, idle and before" {
	local rc=0
	mkfifo fifo
	(on a dsi-serve --data-parallel-size 2 --tensor-parallel-size 2 \
	    "$DEMO" <fifo >got 2>a.err) &
	A_PID=$!
	exec 5>fifo
	until_true 20 grep -q ready: a.err
	kill -9 "$(ip netns pids "$HOST_A" | tail -n 1)"
	wait "$A_PID" || rc=$?
	[ $rc = 111 ]
	line a.err dsi-gen "rank 1 on hosta died: killed by signal 9 (Killed)"
	nothing_left
	exec 5>&-
	broken_worker 1 '[ -e first ] && { echo "no cheese" >&2; exit 7; }; : >first'
	rc=0
	(on a bin/dsi-gen --jsonl --data-parallel-size 2 \
	    --tensor-parallel-size 2 "$DEMO" <<<"$ASK" 2>a.err >got) || rc=$?
	[ $rc = 111 ]
	line a.err dsi-gen "rank 1 on hosta died: no cheese"
	nothing_left
}
