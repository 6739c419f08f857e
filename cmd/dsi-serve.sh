#!/bin/sh
# dsi-serve: starts this node's part of a world, with the flags of
# "vllm-mindspore serve"; see dsi-serve(1).
#
# The node that leads runs dsi-gen over all ranks, a --headless one runs its
# own.  Neither needs more from a shell than to be told apart.

usage='usage: dsi-serve [options] MODEL'
here=$(dirname "$(command -v -- "$0")")

[ $# -gt 0 ] || { echo "$usage" >&2; exit 100; }
[ "$1" != serve ] || shift
for arg; do
	case $arg in
	--headless) exec "$here/dsi-worker" "$@" ;;
	--help)
		cat <<END
usage: dsi-serve [options] MODEL

  --headless  this node does not lead: options as dsi-worker's
  --help      print this and exit
  --version   print the version and exit

All others are those of dsi-gen --jsonl --ready: API requests on stdin, a line
each, and responses on stdout.
END
		exit ;;
	--version) exec "$here/dsi-gen" --version ;;
	--) break ;;
	esac
done
exec "$here/dsi-gen" --jsonl --ready "$@"
