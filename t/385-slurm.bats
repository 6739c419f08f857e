# share/slurm/dsi.sbatch on a real Slurm: munged, slurmctld and two slurmd of
# the tests' own, on this machine.
# shellcheck shell=bash

load lib

lacking() {
	local p
	for p in munged slurmctld slurmd srun sbatch mpirun.openmpi; do
		command -v $p >/dev/null || { echo "no $p"; return; }
	done
	[ -e "$B/t/openmpi/dsi-mpi.so" ] ||
		{ echo "no mpicc.openmpi when this was built"; return; }
	compgen -G '/usr/lib*/*/slurm*/mpi_pmix.so' >/dev/null ||
		{ echo "no PMIx in Slurm"; return; }
	[ "$(id -u)" = 0 ] || echo "slurmd wants to be root"
}

# Both nodes have this machine's name; the prolog makes two hosts of them for
# dsi, and TmpFS gives each its own files of PMIx.
configure() {
	local dir=$1 host port=$((12000 + $$ % 16000))
	host=$(hostname -s)
	cat >"$dir/slurm.conf" <<-END
	ClusterName=dsi
	SlurmctldHost=$host(127.0.0.1)
	SlurmUser=root
	SlurmdUser=root
	AuthType=auth/munge
	AuthInfo=socket=$dir/munge.sock
	CredType=cred/munge
	SlurmctldPort=$port
	SlurmctldPidFile=$dir/slurmctld.pid
	SlurmctldLogFile=$dir/slurmctld.log
	SlurmdPidFile=$dir/%n.pid
	SlurmdLogFile=$dir/%n.log
	SlurmdSpoolDir=$dir/%n.spool
	StateSaveLocation=$dir/state
	TmpFS=$dir/%n.tmp
	TaskProlog=$dir/prolog
	ProctrackType=proctrack/linuxproc
	TaskPlugin=task/none
	SelectType=select/cons_tres
	SelectTypeParameters=CR_CPU
	SlurmdParameters=config_overrides
	AccountingStorageType=accounting_storage/none
	JobCompType=jobcomp/none
	MpiDefault=none
	ReturnToService=2
	KillWait=2
	NodeName=n1 NodeHostname=$host NodeAddr=127.0.0.1 Port=$((port + 1)) CPUs=8 RealMemory=8000
	NodeName=n2 NodeHostname=$host NodeAddr=127.0.0.1 Port=$((port + 2)) CPUs=8 RealMemory=8000
	PartitionName=all Nodes=ALL Default=YES State=UP
	END
	cat >"$dir/prolog" <<-'END'
	#!/bin/sh
	echo "export DSI_HOST_ID=$SLURMD_NODENAME"
	END
	chmod +x "$dir/prolog"
}

start_slurm() {
	local dir=$1 i
	mkdir -m 755 "$dir"
	mkdir -m 700 "$dir/munge"
	mkdir "$dir/state" "$dir"/n{1,2}.{tmp,spool}
	head -c 128 /dev/urandom >"$dir/munge/key"
	chmod 600 "$dir/munge/key"
	# munged refuses directories that others may write to, as /tmp
	munged --force --key-file="$dir/munge/key" \
	    --socket="$dir/munge.sock" --pid-file="$dir/munged.pid" \
	    --log-file="$dir/munge/log" --seed-file="$dir/munge/seed" \
	    --num-threads=2
	configure "$dir"
	slurmctld
	slurmd -N n1
	slurmd -N n2
	for i in {1..100}; do
		[ "$(sinfo -h -t idle -o %D 2>&1)" != 2 ] || return 0
		sleep 0.1
	done
	sinfo
	tail -n 5 "$dir"/*.log
	return 1
}

# The daemons, and the helpers of jobs that they left.
ours() {
	local p
	cat "$BATS_FILE_TMPDIR"/slurm/*.pid 2>/dev/null
	for p in $(pgrep -f '^slurmstepd'); do
		tr '\0' '\n' <"/proc/$p/environ" 2>/dev/null |
		    grep -qxF "SLURM_CONF=$SLURM_CONF" && echo "$p"
	done
	return 0
}

setup_file() {
	local i
	export B=${B:-$DSI_TOP/build}
	BATS_LACK=$(lacking)
	export BATS_LACK
	[ -z "$BATS_LACK" ] || return 0
	export SLURM_CONF=$BATS_FILE_TMPDIR/slurm/slurm.conf
	# bats waits for whoever holds its descriptor 3
	start_slurm "$BATS_FILE_TMPDIR/slurm" >&2 3>&-
	export DSI_CACHE=$BATS_FILE_TMPDIR/cache
	for i in {1..8}; do
		printf '{"prompt":"What is %d + %d? ","max_tokens":%d,' \
		    "$i" "$((i * 7))" "$((4 + i))"
		printf '"temperature":0,"logprobs":1}\n'
	done >"$BATS_FILE_TMPDIR/in"
	dsi-gen --jsonl "$DEMO" <"$BATS_FILE_TMPDIR/in" \
	    >"$BATS_FILE_TMPDIR/want"
}

teardown_file() {
	local p i
	[ -z "$BATS_LACK" ] || return 0
	scancel --quiet --full --signal=KILL --user=root 2>/dev/null
	for p in $(ours); do kill "$p" 2>/dev/null; done
	for i in {1..50}; do
		[ "$(ours)" ] || return 0
		sleep 0.1
	done
	for p in $(ours); do kill -9 "$p" 2>/dev/null; done
	return 0
}

setup() {
	[ -z "$BATS_LACK" ] || skip "$BATS_LACK"
	export DSI_CACHE=$BATS_FILE_TMPDIR/cache
	export DSI_MPI_PLUGIN=$B/t/openmpi/dsi-mpi.so
	# Open MPI would take nodes of one name for one machine's
	export OMPI_MCA_btl=tcp,self
	cd "$BATS_TEST_TMPDIR" || return 1
}

# job [sbatch option]... -- ARGUMENT...: the script to its end
job() {
	local o=()
	while [ "$1" != -- ]; do
		o+=("$1")
		shift
	done
	shift
	timeout 50 sbatch --quiet --wait --overcommit \
	    --cpus-per-task=1 "${o[@]}" "$DSI_TOP/share/slurm/dsi.sbatch" \
	    "$DEMO" "$BATS_FILE_TMPDIR/in" got "$@"
}

@test "dsi.sbatch as it is: 16 ranks on two nodes, the same bytes" {
	job -- || {
		cat dsi-*.log
		return 1
	}
	cat dsi-*.log
	same got "$BATS_FILE_TMPDIR/want"
}

@test "dsi.sbatch with another layout, all bytes over MPI" {
	DSI_TRANSPORT=mpi job --ntasks-per-node=2 -- \
	    --tensor-parallel-size=2 --pipeline-parallel-size=2 || {
		cat dsi-*.log
		return 1
	}
	same got "$BATS_FILE_TMPDIR/want"
}

@test "tasks and layout that don't agree: one line" {
	run -100 job --ntasks-per-node=3 -- --tensor-parallel-size=4
	cat dsi-*.log
	[ "$(grep -c '^dsi-gen: ' dsi-*.log)" = 1 ]
	grep -q 'are 4 ranks, the MPI launcher has started 6' dsi-*.log
}
