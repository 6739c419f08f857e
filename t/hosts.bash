# hosts.bash: two hosts of one machine, for tests that load it after lib.
#
# Each is a network namespace with a host name of its own: hosta has the
# tutorial's 192.10.10.10, hostb 192.10.10.11.  Whatever runs in them has a mark
# in its environment, by which anything that is left is found.

HOSTS_IP=192.10.10.10
export HOSTS_IP

# link_hosts A B ADDR_A ADDR_B: two namespaces with an Ethernet between them, or
# skips the test
link_hosts() {
	local ns
	# in a chroot that is no mount point they can be made but not entered
	if ! ip netns add "$1" 2>/dev/null ||
	    ! ip -n "$1" link >/dev/null 2>&1; then
		ip netns del "$1" 2>/dev/null || :
		skip "needs network namespaces (root)"
	fi
	ip netns add "$2"
	ip -n "$1" link add eth0 type veth peer name eth0 netns "$2"
	ip -n "$1" address add "$3/24" dev eth0
	ip -n "$2" address add "$4/24" dev eth0
	for ns in "$1" "$2"; do
		ip -n "$ns" link set lo up
		ip -n "$ns" link set eth0 up
	done
}

# hosts_open: makes both, or skips the test
hosts_open() {
	HOSTS_MARK=dsi$$x$RANDOM
	HOST_A=$HOSTS_MARK-a
	HOST_B=$HOSTS_MARK-b
	export HOSTS_MARK HOST_A HOST_B
	link_hosts "$HOST_A" "$HOST_B" "$HOSTS_IP" 192.10.10.11
}

hosts_close() {
	local pid
	[ "$HOSTS_MARK" ] || return 0
	for pid in $(marked); do kill -9 "$pid" 2>/dev/null || :; done
	ip netns del "$HOST_A" 2>/dev/null || :
	ip netns del "$HOST_B" 2>/dev/null || :
}

# on a|b COMMAND...: becomes the command, on that host, in a process group of
# its own; fd 5 is the test's alone
on() {
	local ns=$HOST_A name=host$1
	[ "$1" = a ] || ns=$HOST_B
	shift
	# shellcheck disable=SC2016 # for the inner shell
	exec env DSI_MARK="$HOSTS_MARK" ip netns exec "$ns" setsid unshare --uts \
	    sh -c 'hostname "$0" && exec "$@"' "$name" "$@" 3>&- 5>&-
}

# marked: the processes that belong to these hosts
marked() {
	local f
	for f in /proc/[0-9]*/environ; do
		if grep -qsz "^DSI_MARK=$HOSTS_MARK\$" "$f"; then
			f=${f#/proc/}
			echo "${f%/environ}"
		fi
	done
}

# rank_pid a|b N: the process of rank N on that host; 0 and supervisor: b's
# dsi-worker --headless or a's dsi-gen
rank_pid() {
	local ns=$HOST_A pid
	[ "$1" = a ] || ns=$HOST_B
	for pid in $(ip netns pids "$ns"); do
		if tr '\0' ' ' <"/proc/$pid/cmdline" | case $2 in
		top) grep -qE 'dsi-(gen --jsonl|worker .*--headless)' ;;
		*) grep -q -- "--rank=$2 " ;;
		esac; then
			echo "$pid"
			return
		fi
	done
	echo "no rank $2 on host$1" >&2
	return 1
}

# until_true SECONDS COMMAND...
until_true() {
	local end=$((SECONDS + $1))
	shift
	until "$@"; do
		[ $SECONDS -le $end ] || {
			echo "not within its time: $*"
			return 1
		}
		sleep 0.05
	done
}

# nothing_left: no process, shared memory, named socket or port of these hosts
nothing_left() {
	local ns left
	until_true 2 no_marked
	for ns in "$HOST_A" "$HOST_B"; do
		left=$(ip netns exec "$ns" cat /proc/net/unix |
		    tail -n +2 | awk 'NF > 7')
		[ -z "$left" ] || {
			echo "sockets left: $left"
			return 1
		}
		left=$(ip netns exec "$ns" sh -c \
		    'cat /proc/net/tcp /proc/net/tcp6' | awk '$4 == "0A"')
		[ -z "$left" ] || {
			echo "listeners left: $left"
			return 1
		}
	done
	left=$(find /dev/shm -newer "$BATS_TEST_TMPDIR/.began" -type f \
	    -name '*dsi*')
	[ -z "$left" ] || {
		echo "left in /dev/shm: $left"
		return 1
	}
}

no_marked() {
	[ -z "$(marked)" ]
}
