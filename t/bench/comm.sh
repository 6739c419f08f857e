#!/bin/sh
# comm.sh [ROUNDS]: collectives of lib/comm beside Open MPI's, on this machine,
# more ranks than cores and all; a table on stdout, the figures as TSV in
# $B/bench-comm.tsv.

cd "$(dirname "$0")/../.." || exit 111
B=${B:-build}
rounds=${1:-4000}
ours=$B/t/bench/comm
tsv=$B/bench-comm.tsv

[ -x "$ours" ] || make B="$B" "$ours" >/dev/null || exit 111
: >"$tsv"
mpi=
if command -v mpicc >/dev/null && command -v mpirun >/dev/null; then
	mpi=$B/t/bench/comm_mpi
	mpicc -std=c11 -O2 -x c -o "$mpi" t/bench/comm_mpi.c.in || exit 111
else
	echo 'comm.sh: no mpicc: without Open MPI' >&2
fi
for n in 2 4 8 16; do
	"$ours" $n shared "$rounds" >>"$tsv" || exit
	[ -z "$mpi" ] || OMPI_MCA_btl=self,vader mpirun --allow-run-as-root \
	    --oversubscribe --bind-to none -np $n \
	    --mca mpi_yield_when_idle 1 "$mpi" "$rounds" >>"$tsv" || exit
	"$ours" $n apart $((rounds / 8 + 1)) | sed 's/^ours/tcp/' >>"$tsv"
done
awk -F '\t' '
{
	at[$1, $2, $3] = $5
}
END {
	printf "%-8s %5s  %9s %9s %9s %7s   (microseconds, median)\n", \
	    "what", "ranks", "ours", "Open MPI", "ours/TCP", "ratio"
	split("sum share barrier", what, " ")
	for (w = 1; w <= 3; w++)
		for (n = 2; n <= 16; n *= 2) {
			o = at["ours", what[w], n]
			m = at["mpi", what[w], n]
			t = at["tcp", what[w], n]
			printf "%-8s %5d  %9s %9s %9s %7s\n", what[w], n, o, \
			    m == "" ? "-" : m, t, \
			    m == "" || !o ? "-" : sprintf("%.1fx", m / o)
		}
}' "$tsv"
