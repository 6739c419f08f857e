# mpirun starts the ranks, MPI carries the bytes: the answers stay the same.
# shellcheck shell=bash

load lib

requests() {
	local i long='' q='What is 12 + 30? '
	for i in {1..14}; do long+=$q; done
	for i in 1 2 3 4; do
		printf '{"prompt":"%sWhat is %d + %d?","max_tokens":%d,' \
		    "${long:0:i*i*13}" "$i" "$((i * 7))" "$((4 + i * 3))"
		printf '"temperature":0,"logprobs":2}\n'
		printf '{"messages":[{"role":"user","content":"%s%d"}],' \
		    "${long:0:i*20}" "$i"
		printf '"max_tokens":12,"temperature":0.8,"seed":%d,' "$i"
		printf '"logprobs":true,"top_logprobs":3}\n'
	done
}

setup_file() {
	export DSI_CACHE=$BATS_FILE_TMPDIR/cache
	requests >"$BATS_FILE_TMPDIR/in"
	dsi-gen --jsonl "$DEMO" <"$BATS_FILE_TMPDIR/in" \
	    >"$BATS_FILE_TMPDIR/want"
}

setup() {
	export DSI_CACHE=$BATS_FILE_TMPDIR/cache
	# the tests may be root, and have more ranks than cores
	export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
	export OMPI_MCA_rmaps_base_oversubscribe=1
	cd "$BATS_TEST_TMPDIR" || return 1
	gen=(dsi-gen --jsonl --distributed-executor-backend=mpi)
}

# needs openmpi|mpich: its launcher becomes $mpirun, its plug-in the one to use
needs() {
	mpirun=mpirun.$1
	DSI_MPI_PLUGIN=$B/t/$1/dsi-mpi.so
	export DSI_MPI_PLUGIN
	command -v "$mpirun" >/dev/null || skip "no $mpirun"
	[ -e "$DSI_MPI_PLUGIN" ] || skip "no mpicc.$1 when this was built"
}

# over N [flags]: the same bytes
over() {
	local n=$1
	shift
	echo "$mpirun -n $n $* DSI_TRANSPORT=$DSI_TRANSPORT"
	timeout 60 "$mpirun" -n "$n" "${gen[@]}" "$@" "$DEMO" \
	    <"$BATS_FILE_TMPDIR/in" >got
	same got "$BATS_FILE_TMPDIR/want"
}

layouts() {
	export DSI_TRANSPORT=mpi
	over 4 --tensor-parallel-size=4
	over 4 --tensor-parallel-size=2 --data-parallel-size=2 \
	    --expert-parallel-size=4
	over 4 --tensor-parallel-size=2 --pipeline-parallel-size=2
	DSI_TRANSPORT=tcp over 2 --tensor-parallel-size=2
	DSI_TRANSPORT=shm over 4 --tensor-parallel-size=4
}

# the tests of lib/comm that end well, over MPI
conform() {
	DSI_TRANSPORT=mpi timeout 120 "$mpirun" -n 16 "$B/t/unit/comm" >tap
	cat tap
	grep -q '^1\.\.[1-9]' tap
	! grep -v -e '^ok ' -e '^1\.\.' tap
}

# 4 ranks that wait for requests at the end of a pipe
start() {
	mkfifo pipe
	DSI_TRANSPORT=mpi timeout -k 5 60 "$mpirun" -n 4 "${gen[@]}" \
	    --alive-timeout=2 --tensor-parallel-size=4 "$DEMO" \
	    <pipe >out 2>err 3>&- &
	launcher=$!
	exec 9>pipe
	head -n 1 "$BATS_FILE_TMPDIR/in" >&9
	for _ in {1..300}; do
		[ -s out ] && break
		sleep 0.1
	done
	[ -s out ]
}

# rank_of PID: as its launcher said
rank_of() {
	tr '\0' '\n' <"/proc/$1/environ" 2>/dev/null |
	    sed -n 's/^OMPI_COMM_WORLD_RANK=//p; s/^PMI_RANK=//p'
}

# Ranks of this test, by the directory that they run in.
ranks() {
	local p
	for p in $(pgrep -x dsi-gen); do
		[ "$(readlink "/proc/$p/cwd")" != "$PWD" ] || echo "$p"
	done
}

# lost_rank SIGNAL N: all end, with a line, and leave nothing
lost_rank() {
	local p victim='' t0 rc=0
	start
	for p in $(ranks); do
		[ "$(rank_of "$p")" != "$2" ] || victim=$p
	done
	t0=$SECONDS
	kill "-$1" "$victim"
	wait "$launcher" || rc=$?
	exec 9>&-
	cat out err
	((rc != 0 && SECONDS - t0 < 8))
	for _ in {1..50}; do
		[ "$(ranks)" ] || return 0
		sleep 0.1
	done
	echo "left: $(ranks)"
	return 1
}

# One line of ours among those of the launcher.
one_of_ours() {
	[ "$(grep '^dsi-' <<<"$output" | grep -vc ': sharding ')" = 1 ] || {
		echo "want one line of ours: $output"
		return 1
	}
}

wrong_number() {
	export DSI_TRANSPORT=mpi
	run -100 timeout 60 "$mpirun" -n 3 "${gen[@]}" \
	    --tensor-parallel-size=4 "$DEMO" </dev/null
	has 'tensor 4 * pipeline 1 are 4 ranks, the MPI launcher has started 3'
	one_of_ours
	run -100 timeout 60 "$mpirun" -n 2 "${gen[@]}" \
	    --tensor-parallel-sise=2 "$DEMO" </dev/null
	has 'there is --tensor-parallel-size'
	one_of_ours
	# only one rank sees it
	cat >wrong <<-'END'
	#!/bin/sh
	[ "$OMPI_COMM_WORLD_RANK$PMI_RANK" = 1 ] && set -- "$@" --strange
	exec "$@" "$DEMO"
	END
	chmod +x wrong
	run -100 timeout 60 "$mpirun" -n 2 ./wrong "${gen[@]}" \
	    --tensor-parallel-size=2 </dev/null
	has 'no option --strange'
	one_of_ours
}

@test "Open MPI: TP4, DP2TP2EP4, PP2TP2 over MPI, TCP, shared memory" {
	needs openmpi
	layouts
}

@test "MPICH: TP4, DP2TP2EP4, PP2TP2 over MPI, TCP, shared memory" {
	needs mpich
	layouts
}

@test "Open MPI: lib/comm's own tests over it" {
	needs openmpi
	conform
}

@test "MPICH: lib/comm's own tests over it" {
	needs mpich
	conform
}

@test "Open MPI: a rank that fails is one line, and no hang" {
	needs openmpi
	wrong_number
}

@test "MPICH: a rank that fails is one line, and no hang" {
	needs mpich
	wrong_number
}

@test "Open MPI: a killed rank ends all; its mpirun says who" {
	needs openmpi
	lost_rank KILL 2
	grep -q 'process rank 2 .* exited on signal 9' err
}

@test "Open MPI: a killed lead ends all" {
	needs openmpi
	lost_rank KILL 0
	grep -q 'process rank 0 .* exited on signal 9' err
}

@test "Open MPI: a stalled rank ends all; the lead says who" {
	needs openmpi
	lost_rank STOP 2
	[ "$(grep '^dsi-' err | grep -vc ': sharding ')" = 1 ]
	grep -q '^dsi-gen: rank 2 on .*: no sign of life for 2 s' err
}

@test "MPICH: a stalled rank ends all; the lead says who" {
	needs mpich
	lost_rank STOP 2
	[ "$(grep '^dsi-' err | grep -vc ': sharding ')" = 1 ]
	grep -q '^dsi-gen: rank 2 on .*: no sign of life for 2 s' err
}

# Its mpirun names any of those that it kills then.
@test "MPICH: a killed rank ends all" {
	needs mpich
	lost_rank KILL 2
	grep -qi 'signal 9' out err
}

@test "dsi-serve under mpirun, with the plug-in that lies beside the program" {
	needs openmpi
	mpicc --showme:version 2>/dev/null | grep -q 'Open MPI' ||
	    skip "mpicc is not Open MPI's"
	unset DSI_MPI_PLUGIN
	timeout 60 "$mpirun" -n 2 dsi-serve --model="$DEMO" \
	    --distributed-executor-backend=mpi --tensor-parallel-size=2 \
	    <"$BATS_FILE_TMPDIR/in" >got
	same got "$BATS_FILE_TMPDIR/want"
}

@test "the wrong launcher, no launcher, no plug-in, one of another build" {
	needs openmpi
	run -100 "${gen[@]}" --tensor-parallel-size=4 "$DEMO" </dev/null
	has 'are 4 ranks, MPI has started 1'
	one_line dsi-gen
	export DSI_MPI_PLUGIN=$PWD/none.so
	run -100 "${gen[@]}" "$DEMO" </dev/null
	has "the MPI plug-in: $PWD/none.so: cannot open"
	one_line dsi-gen
	echo 'const struct { unsigned v; const char *b; } dsi_plug =
	    { 1, "0.0.1" };' >old.c
	${CC:-cc} -shared -fPIC -o none.so old.c
	run -100 "${gen[@]}" "$DEMO" </dev/null
	has 'is not of this build'
	one_line dsi-gen
	unset DSI_MPI_PLUGIN
	DSI_TRANSPORT=mpi run -100 dsi-gen --jsonl --tensor-parallel-size=2 \
	    "$DEMO" </dev/null
	has 'DSI_TRANSPORT=mpi needs --distributed-executor-backend=mpi'
	needs mpich
	run -100 timeout 60 mpirun.openmpi -n 2 "${gen[@]}" \
	    --tensor-parallel-size=2 "$DEMO" </dev/null
	has 'they are of different makes'
	one_of_ours
}
