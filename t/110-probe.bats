# dsi-check --hosts: what is wrong with a set of hosts is named before a world
# is started on them.  Two hosts are two network namespaces with names of
# their own; a script stands in for ssh.
# shellcheck shell=bash

load lib
load hosts

# rsh HOST COMMAND...: what a test wants otherwise is in files HOST.*
write_rsh() {
	cat >rsh <<-'END'
	#!/bin/sh
	host=$1
	name=$host
	over=:
	shift
	cd "$(dirname "$0")" || exit 1
	case $host in
	hang) sleep 1000 ;;
	gone)
		echo "ssh: connect to host gone port 22: No route to host" >&2
		exit 255
		;;
	esac
	[ ! -e "$host.sh" ] || . "./$host.sh"
	exec ip netns exec "$PROBE_MARK-$host" unshare --uts --mount \
	    sh -c 'hostname "$0" && eval "$1" && shift && exec "$@"' \
	    "$name" "$over" "$@"
	END
	chmod +x rsh
}

setup() {
	cd "$BATS_TEST_TMPDIR" || return 1
	export PROBE_MARK=dsip$$x$RANDOM
	export DSI_RSH="env DSI_MARK=$PROBE_MARK $BATS_TEST_TMPDIR/rsh"
	write_rsh
	cp -r "$DEMO" model
	link_hosts "$PROBE_MARK-hosta" "$PROBE_MARK-hostb" 192.10.20.10 \
	    192.10.20.11
}

teardown() {
	local pid
	for pid in $(marked); do kill -9 "$pid" 2>/dev/null || :; done
	ip netns del "$PROBE_MARK-hosta" 2>/dev/null || :
	ip netns del "$PROBE_MARK-hostb" 2>/dev/null || :
}

# marked: processes that the script has started and that are still there
marked() {
	grep -lsz "^DSI_MARK=$PROBE_MARK\$" /proc/[0-9]*/environ |
	    sed 's,/proc/,,; s,/environ,,'
}

# within COMMAND...: true in 2 seconds
within() {
	local end=$((SECONDS + 2))
	until "$@"; do
		[ $SECONDS -le $end ] || {
			echo "not in its time: $*"
			return 1
		}
		sleep 0.05
	done
}

# has_marked N: at least so many; 0: none at all
has_marked() {
	local n
	n=$(marked | wc -l)
	if [ "$1" = 0 ]; then [ "$n" = 0 ]; else [ "$n" -ge "$1" ]; fi
}

nothing_left() {
	within has_marked 0
}

# check STATUS ARG...: both hosts with ARGs, in 10 seconds
check() {
	local status=$1 start=${EPOCHREALTIME/./}
	shift
	run "-$status" --separate-stderr dsi-check --hosts hosta,hostb "$@" \
	    model
	[[ $((${EPOCHREALTIME/./} - start)) -lt 10000000 ]]
	nothing_left
}

TP4=(--tensor-parallel-size 4)

@test "the table of two hosts that are well" {
	check 0 "${TP4[@]}" --data-parallel-address 192.10.20.10 \
	    --data-parallel-rpc-port 12370
	has "hosta  hosta "
	has "hostb  hostb "
	has "lead     hosta at 192.10.20.10 port 12370"
	has "memory   hostb: 2 ranks fit"
	has "verdict  this can start"
	[[ $output == *hostb*eth0*192.10.20.11*us*"iB/s"*"2-3"* ]]
	[[ $stderr == *"run on one machine"* ]]
}

@test "the same as JSON" {
	check 0 "${TP4[@]}" --json
	[[ $(jq -c '[.ok, .lead.address, .lead.port, (.hosts[] | .host, .name,
	    .interface, .address, .ranks, .fits)]' <<<"$output") == \
	    '[true,"192.10.20.10",29550,"hosta","hosta","eth0","192.10.20.10",[0,1],true,"hostb","hostb","eth0","192.10.20.11",[2,3],true]' ]]
	jq -e '.hosts[1] | .rtt_ns > 0 and .bytes_per_s > 1000000 and
	    .build == "'"$(dsi-check --version | cut -d' ' -f2)"'"' \
	    <<<"$output"
	[[ $(jq -r '.hosts[0].model_digest == .hosts[1].model_digest' \
	    <<<"$output") == true ]]
	[[ $stderr == *"--data-parallel-address 192.10.20.10"* ]]
}

@test "ranks by the hosts' slots, a file of hosts, the flags for nodes" {
	printf 'hosta:3\n# a comment\nhostb:1 # small\n' >hosts
	run -0 --separate-stderr dsi-check --hosts @hosts --json "${TP4[@]}" \
	    model
	[[ $(jq -c '[.hosts[].ranks]' <<<"$output") == "[[0,1,2],[3]]" ]]
	check 0 --json --data-parallel-size 4 --data-parallel-size-local 3 \
	    --enable-expert-parallel --headless --data-parallel-start-rank 3 \
	    --data-parallel-address 192.10.20.10
	[[ $(jq -c '[.hosts[].ranks]' <<<"$output") == "[[0,1,2],[3]]" ]]
	check 0 --json
	[[ $(jq -c '[.hosts[].ranks]' <<<"$output") == "[[0],[]]" ]]
	[[ $stderr == *"hostb gets no rank"* ]]
}

@test "too little memory is named for each host (1)" {
	check 1 "${TP4[@]}" --memory-per-host 4M
	has "problem  hostb: rank 2 needs"
	has "memory   hosta: 2 ranks do not fit"
}

@test "equal host names (1)" {
	echo 'name=hosta' >hostb.sh
	check 1 "${TP4[@]}"
	has "problem  hosta and hostb both have the host name hosta: give each its own (hostnamectl set-hostname)"
	has "verdict  this cannot start: 1 problem"
}

@test "another build (1), and a login that talks" {
	cat >hostb.sh <<-'END'
	echo "Welcome to hostb"
	echo
	over='mkfifo out
	    sed -u s/\"build\":\"[^\"]*\"/\"build\":\"0.0.9\"/ <out &
	    exec >out'
	END
	check 1 "${TP4[@]}"
	has "problem  hostb has dsi 0.0.9, this is "
	has "verdict  this cannot start: 1 problem"
}

@test "another model, none, or rank files that are missing (1)" {
	cp -r model other
	echo ' ' >>other/config.json
	echo 'over="mount --bind other model"' >hostb.sh
	check 1 "${TP4[@]}"
	has "problem  hostb: $PWD/model is another model than here: digest "
	echo 'over="mount -t tmpfs none model"' >hostb.sh
	check 1 "${TP4[@]}"
	has "problem  hostb: open $PWD/model/config.json: No such file"
	dsi-shard -o ranks "${TP4[@]}" model
	mv model published
	cp -r ranks model
	rm ranks/rank-00003/layer-001.safetensors
	echo 'over="mount --bind ranks model"' >hostb.sh
	check 1
	has "problem  hostb: $PWD/model/rank-00003/layer-001.safetensors: No such file"
	echo 'over="mount --bind published model"' >hostb.sh
	check 1
	has "is a directory, here it is a rank files"
}

@test "an interface that is missing (1): which there are" {
	echo 'export DSI_SOCKET_IFNAME=eth9' >hostb.sh
	check 1 "${TP4[@]}"
	has "problem  hostb: DSI_SOCKET_IFNAME=eth9: there is no such network interface; there is: eth0 192.10.20.11"
	rm hostb.sh
	GLOO_SOCKET_IFNAME=eth9 check 1 "${TP4[@]}"
	has "problem  hosta: GLOO_SOCKET_IFNAME=eth9: there is no such"
	has "problem  hostb: GLOO_SOCKET_IFNAME=eth9: there is no such"
	DSI_SOCKET_IFNAME=eth0 check 0 "${TP4[@]}"
}

@test "the lead's port is in use, or its address another's (1)" {
	mkfifo in
	./rsh hosta dsi-check --probe <in >out &
	exec 5>in
	echo '{"do":"listen","address":"192.10.20.10","port":12370}' >&5
	within test -s out
	run -1 dsi-check --hosts hosta,hostb "${TP4[@]}" \
	    --data-parallel-rpc-port 12370 model
	has "problem  hosta: listen on 192.10.20.10 port 12370: Address already in use"
	exec 5>&-
	wait
	check 1 "${TP4[@]}" --data-parallel-address 192.10.20.11
	has "problem  hosta: listen on 192.10.20.11 port 29550: Cannot assign requested address; it has eth0 192.10.20.10, and hostb has that address: name it first"
}

@test "no way to the lead (1)" {
	ip -n "$PROBE_MARK-hostb" address del 192.10.20.11/24 dev eth0
	ip -n "$PROBE_MARK-hostb" address add 192.10.30.11/24 dev eth0
	check 1 "${TP4[@]}"
	has "problem  hostb: cannot reach the lead at 192.10.20.10 port 29550: connect: Network is unreachable; it has eth0 192.10.30.11, hosta has eth0 192.10.20.10: DSI_SOCKET_IFNAME chooses"
	# a route there, none back
	ip -n "$PROBE_MARK-hostb" route add 192.10.20.0/24 dev eth0
	DSI_PROBE_MS=4000 check 1 "${TP4[@]}"
	has "problem  hostb: cannot reach the lead at 192.10.20.10 port 29550: connect: Connection timed out; it has"
}

@test "hosts that can't be reached, in ssh's own words (1)" {
	run -1 --separate-stderr dsi-check --hosts hosta,gone "${TP4[@]}" model
	has "problem  gone: ssh: connect to host gone port 22: No route to host (exit 255)"
	has "hosta  hosta"
	run -1 --separate-stderr dsi-check --hosts hosta,hostb --rsh ./nowhere \
	    "${TP4[@]}" model
	has "problem  hosta: ./nowhere: cannot be run (exit 111)"
	run -1 --separate-stderr dsi-check --hosts hosta,hostb \
	    --probe-program dsi-chekc "${TP4[@]}" model
	[[ $output == *"problem  hostb: "*dsi-chekc*"not found"* ]]
	command -v ssh >/dev/null || skip "no ssh for the last part"
	unset DSI_RSH
	run -1 --separate-stderr ip netns exec "$PROBE_MARK-hosta" \
	    dsi-check --hosts localhost,127.0.0.1 "${TP4[@]}" model
	has "problem  127.0.0.1: ssh: connect to host 127.0.0.1 port 22: Connection refused (exit 255)"
}

@test "a host that hangs is named, and ended (1)" {
	DSI_PROBE_MS=4000 run -1 --separate-stderr dsi-check \
	    --hosts hosta,hang "${TP4[@]}" model
	has "problem  hang: no answer for "
	has "hosta  hosta"
	nothing_left
}

@test "killed, it leaves nothing behind" {
	local sig pid
	for sig in KILL TERM; do
		dsi-check --hosts hosta,hostb,hang,gone "${TP4[@]}" model \
		    >out 2>&1 3>&- &
		pid=$!
		within has_marked 4
		kill -$sig $pid
		wait $pid || [ $? -ge 128 ]
		nothing_left
	done
}

@test "lists that are wrong (100)" {
	local list
	for list in '' 'a,,b' '-oProxyCommand=x' 'a,a' 'a:0' 'a:2000' 'a:1,b' \
	    'a b' '@nowhere' 'root@-x' 'a;b'; do
		run -100 dsi-check --hosts "$list" "${TP4[@]}" model
		one_line dsi-check
		has "--hosts: "
	done
	run -100 dsi-check --hosts hosta:1,hostb:1 "${TP4[@]}" model
	has "places to 2 ranks, the layout has 4"
	run -100 dsi-check --hosts a,b,c "${TP4[@]}" model
	has "4 ranks cannot be shared evenly by hosts, which are 3"
	run -100 dsi-check --hosts a,b --nnodes 4 "${TP4[@]}" model
	has "2 hosts, but --nnodes 4 makes 4 nodes"
}
