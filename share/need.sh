# need.sh: sourced by t/run and demo.sh.
#
#	need PACKAGE...
#
# makes sure that what the Debian packages give is there.  What is already
# there is not asked of apt; the rest is installed quietly, as root or through
# sudo.  Where that can't be, one line says what to install, and need returns 1.

# Is there what package $1 is wanted for?
need_have() {
	case $1 in
	make | gcc | bats | shellcheck | clang-format | mandoc | jq | curl)
		command -v "$1" >/dev/null 2>&1
		;;
	iproute2) command -v ip >/dev/null 2>&1 ;;
	python3-minimal) command -v python3 >/dev/null 2>&1 ;;
	libc6-dev) need_header stdio.h ;;
	libyaml-dev) need_header yaml.h ;;
	libcjson-dev) need_header cjson/cJSON.h ;;
	libssl-dev) need_header openssl/evp.h ;;
	libpcre2-dev) need_header pcre2.h ;;
	ca-certificates) [ -s /etc/ssl/certs/ca-certificates.crt ] ;;
	*)
		dpkg-query -W -f '${Status}' "$1" 2>/dev/null |
		    grep -q 'install ok installed'
		;;
	esac
}

need_header() {
	[ -e "/usr/include/$1" ] || [ -e "/usr/local/include/$1" ]
}

# apt-get as root; $need_sudo is empty or sudo
need_apt() {
	$need_sudo env DEBIAN_FRONTEND=noninteractive apt-get -qq -y \
	    -o DPkg::Lock::Timeout=120 "$@" </dev/null
}

need() {
	need_missing=
	for need_pkg; do
		need_have "$need_pkg" || need_missing="$need_missing $need_pkg"
	done
	[ "$need_missing" ] || return 0

	need_sudo=
	if [ "$(id -u)" != 0 ]; then
		need_sudo=sudo
		# a password can only be asked for at a terminal
		[ -t 0 ] && [ -t 2 ] && sudo -v 2>/dev/null ||
		    sudo -n true 2>/dev/null || need_sudo=none
	fi
	if [ "$need_sudo" = none ] || ! command -v apt-get >/dev/null 2>&1; then
		echo "missing packages, please install (Debian's names):$need_missing" >&2
		return 1
	fi

	need_log=$(mktemp) || return 1
	# shellcheck disable=SC2086 # a list of package names
	if need_apt update >"$need_log" 2>&1 &&
	    need_apt install --no-install-recommends $need_missing \
		>>"$need_log" 2>&1; then
		rm -f "$need_log"
		return 0
	fi
	tail -n 5 "$need_log" >&2
	rm -f "$need_log"
	echo "apt-get could not install:$need_missing" >&2
	return 1
}
