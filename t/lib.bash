# lib.bash: loaded by each system test with "load lib".
#
# Programs are found on PATH.  Each test starts in a directory of its own and
# may leave anything there.

bats_require_minimum_version 1.5.0

: "${DSI_TOP:=$(cd "$BATS_TEST_DIRNAME/.." && pwd)}"
export DSI_TOP

# when bats is run by hand, without t/check
if ! command -v dsi-tok >/dev/null; then
	PATH=$DSI_TOP/build/bin:$PATH
fi

# a model that is small enough for every test, and true to the architecture
DEMO=$DSI_TOP/share/demo/model
export DEMO

# nothing of the user's own may leak in
export DSI_CACHE=${BATS_TEST_TMPDIR:-/nonexistent}/cache
export LC_ALL=C.UTF-8
unset DSI_CPU MINDFORMERS_MODEL_CONFIG DSI_SOCKET_IFNAME TP_SOCKET_IFNAME \
    GLOO_SOCKET_IFNAME HCCL_SOCKET_IFNAME DSI_VISIBLE_DEVICES \
    ASCEND_RT_VISIBLE_DEVICES VLLM_PP_LAYER_PARTITION

setup() {
	cd "$BATS_TEST_TMPDIR" || return 1
}

# same A B: two files must not differ
same() {
	cmp "$1" "$2" || {
		diff -u "$1" "$2" | head -n 20
		return 1
	}
}

# has TEXT: $output must contain it
has() {
	[[ $output == *"$1"* ]] || {
		printf 'not in the output: %s\noutput: %s\n' "$1" "$output"
		return 1
	}
}

# one_line PROGRAM: $output is a single line that starts with "PROGRAM: "
one_line() {
	[[ $output == "$1: "* && $output != *$'\n'* ]] || {
		printf 'want one line "%s: ...", output: %s\n' "$1" "$output"
		return 1
	}
}
