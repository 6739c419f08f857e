/*
 * deploy: what flags, YAML, environment and config.json together come to, the
 * text of each refusal, and the plan of R1 against numbers made by hand.
 */
#include <string.h>
#include <unistd.h>

#include "deploy/deploy.h"
#include "tap.h"

/* R1's numbers, as its config.json has them */
static const char r1[] =
    "{\"model_type\":\"deepseek_v3\",\"hidden_size\":7168,"
    "\"vocab_size\":129280,\"num_hidden_layers\":61,"
    "\"num_attention_heads\":128,\"num_key_value_heads\":128,"
    "\"num_nextn_predict_layers\":1,\"q_lora_rank\":1536,"
    "\"kv_lora_rank\":512,\"qk_nope_head_dim\":128,"
    "\"qk_rope_head_dim\":64,\"v_head_dim\":128,"
    "\"intermediate_size\":18432,\"moe_intermediate_size\":2048,"
    "\"n_routed_experts\":256,\"n_shared_experts\":1,"
    "\"num_experts_per_tok\":8,\"n_group\":8,\"topk_group\":4,"
    "\"first_k_dense_replace\":3,\"moe_layer_freq\":1,"
    "\"scoring_func\":\"sigmoid\",\"topk_method\":\"noaux_tc\","
    "\"norm_topk_prob\":true,\"routed_scaling_factor\":2.5,"
    "\"rms_norm_eps\":1e-06,\"rope_theta\":10000,"
    "\"max_position_embeddings\":163840,\"hidden_act\":\"silu\","
    "\"tie_word_embeddings\":false,\"attention_bias\":false,"
    "\"bos_token_id\":0,\"eos_token_id\":1,"
    "\"quantization_config\":{\"quant_method\":\"fp8\"},"
    "\"rope_scaling\":{\"type\":\"yarn\",\"factor\":40,\"beta_fast\":32,"
    "\"beta_slow\":1,\"mscale\":1.0,\"mscale_all_dim\":1.0,"
    "\"original_max_position_embeddings\":4096},"
    "\"torch_dtype\":\"bfloat16\"}";

static const char *const vars[] = { "MINDFORMERS_MODEL_CONFIG",
    "DSI_SOCKET_IFNAME", "TP_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME",
    "HCCL_SOCKET_IFNAME", "DSI_VISIBLE_DEVICES",
    "ASCEND_RT_VISIBLE_DEVICES", "VLLM_PP_LAYER_PARTITION",
    "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS" };

static char demo[512], yaml16[512], yaml4[512];
static struct deploy d;
static struct err e;
static char words[2048];		/* what d's strings point into */

static void
clear_env(void)
{
	for (size_t i = 0; i < sizeof(vars) / sizeof(*vars); i++)
		unsetenv(vars[i]);
}

static int
parse(char *line)
{
	struct opt tab[1 + DEPLOY_LAYOUT_OPTS + DEPLOY_SERVE_OPTS +
	    DEPLOY_ENGINE_OPTS + 1] = {
		{ .name = "strict", .type = OPT_FLAG, .dst = &d.strict },
	};
	struct opt *t = deploy_layout_opts(tab + 1, &d);
	char *argv[64] = { "test" }, *save = NULL, *w;
	int argc = 1, rc;

	t = deploy_serve_opts(t, &d);
	t = deploy_engine_opts(t, &d.engine, &d.threads);
	*t = (struct opt){0};
	for (w = strtok_r(line, " ", &save); w; w = strtok_r(NULL, " ",
	    &save))
		argv[argc++] = w;
	rc = opt_parse(tab, "test", "", &argc, argv, &e);
	if (rc == 0 && argc == 1)
		d.model = argv[0];
	if (!d.model)
		d.model = demo;
	return rc;
}

/* Resolves a line of flags; the operand is the demo model unless given. */
static int
go(const char *line)
{
	deploy_free(&d);
	deploy_init(&d);
	e = (struct err){0};
	snprintf(words, sizeof(words), "%s", line);
	return parse(words) == 0 ? deploy_resolve(&d, &e) : -1;
}

static void
good(const char *line, unsigned tp, unsigned dp, unsigned pp, unsigned ep,
    unsigned worlds)
{
	int rc = go(line);

	tap_ok(rc == 0 && d.layout.tp == tp && d.layout.dp == dp &&
	    d.layout.pp == pp && d.layout.ep == ep && d.worlds == worlds &&
	    d.size == worlds * tp * dp * pp, "%.90s: %s", line,
	    rc ? e.msg : "works");
}

static void
refused(const char *line, const char *want)
{
	int rc = go(line);

	tap_ok(rc == -1 && e.code == ERR_CALLER && strcmp(e.msg, want) == 0,
	    "%.60s: %s", line, rc ? e.msg : "works");
	if (rc == 0 || strcmp(e.msg, want))
		printf("# want %s\n", want);
}

/* The notices of a line that works, one of which is want. */
static void
noticed(const char *line, const char *want)
{
	int rc = go(line);
	bool found = false;

	for (size_t i = 0; i < d.nnotice; i++)
		found |= strcmp(d.notice[i], want) == 0;
	tap_ok(rc == 0 && found, "%.60s: %s", line, rc ? e.msg :
	    d.nnotice ? d.notice[d.nnotice - 1] : "no notice");
	if (!found)
		printf("# want %s\n", want);
}

/* A copy of dp4tp4ep4.yaml with one change */
static char edited[] = "edited.yaml";

static void
edit(const char *from, const char *to)
{
	struct buf b = {0}, out = {0};
	const char *at;

	if (io_slurp(yaml4, 1 << 20, &b, &e) == -1 || !(at = strstr(b.p,
	    from))) {
		tap_ok(0, "no '%s' in %s", from, yaml4);
		return;
	}
	buf_put(&out, b.p, (size_t)(at - b.p));
	buf_puts(&out, to);
	buf_puts(&out, at + strlen(from));
	io_write_file(edited, out.p, out.n, &e);
	buf_free(&b);
	buf_free(&out);
}

/* ---- layouts ---- */

static void
test_layouts(void)
{
	good("", 1, 1, 1, 1, 1);
	good("--tensor-parallel-size 4", 4, 1, 1, 1, 1);
	good("--tensor_parallel_size=4 --data-parallel-size 2", 4, 1, 1, 1,
	    2);
	good("--tensor-parallel-size 4 --data-parallel-size 4 "
	    "--enable-expert-parallel", 4, 4, 1, 16, 1);
	good("--tensor-parallel-size 4 --data-parallel-size 4 "
	    "--expert-parallel-size 4", 4, 4, 1, 4, 1);
	good("--tensor-parallel-size 4 --enable-expert-parallel "
	    "--additional-config {\"expert_parallel\":2}", 4, 1, 1, 2, 1);
	good("--tensor-parallel-size 2 --pipeline-parallel-size 2 "
	    "--data-parallel-size 2 --enable-expert-parallel "
	    "--expert-parallel-size 4", 2, 2, 2, 4, 1);
	good("--pipeline-parallel-size 3 --data-parallel-size 2", 1, 1, 3, 1,
	    2);
	tap_ok(d.data == 2 && d.size == 6, "two worlds of three stages");
	tap_ok(go("--data-parallel-size 2 --nnodes 2 --master-addr ::1") == 0 &&
	    d.worlds == 1 && d.layout.dp == 2 && d.layout.ep == 1 &&
	    d.nnotice == 1 && strstr(d.notice[0], "one world in lockstep"),
	    "over two nodes one world: %s", d.notice ? d.notice[0] : e.msg);
}

static void
test_yaml(void)
{
	char line[1100];

	snprintf(line, sizeof(line), "--mindformers-config %s", yaml16);
	good(line, 16, 1, 1, 1, 1);
	tap_ok(d.nnotice == 0, "nothing to be noticed");
	snprintf(line, sizeof(line), "--mindformers-config=%s "
	    "--tensor-parallel-size 8", yaml16);
	good(line, 8, 1, 1, 1, 1);
	snprintf(line, sizeof(line), "--mindformers-config %s --strict",
	    yaml4);
	good(line, 4, 4, 1, 4, 1);
	snprintf(line, sizeof(line), "--mindformers-config %s "
	    "--expert-parallel-size 16 --data-parallel-size 4", yaml4);
	good(line, 4, 4, 1, 16, 1);
	setenv("MINDFORMERS_MODEL_CONFIG", yaml4, 1);
	good("--enable-expert-parallel --tensor-parallel-size 4", 4, 4, 1, 4,
	    1);
	snprintf(line, sizeof(line), "%s:13: parallel_config.data_parallel "
	    "is 4, --data-parallel-size is 2; they must be equal", yaml4);
	refused("--data-parallel-size 2", line);
	snprintf(line, sizeof(line), "--additional-config says "
	    "expert_parallel 2, %s says 4; they must be equal", yaml4);
	refused("--additional-config {\"expert_parallel\":2}", line);
	edit("pipeline_stage: 1", "pipeline_stage: 4");
	noticed("--mindformers-config edited.yaml --pipeline-parallel-size 2",
	    "--pipeline-parallel-size 2 is used, not pipeline_stage 4 of "
	    "edited.yaml");
	tap_ok(d.layout.pp == 2, "and so it is");
	setenv("MINDFORMERS_MODEL_CONFIG", yaml16, 1);
	snprintf(line, sizeof(line), "--enable-expert-parallel has no "
	    "effect: expert_parallel in %s is 1", yaml16);
	noticed("--enable-expert-parallel", line);
	clear_env();
	refused("--mindformers-config /nonexistent/x.yaml",
	    "open /nonexistent/x.yaml: No such file or directory");
}

static void
test_splits(void)
{
	refused("--tensor-parallel-size 12", "num_attention_heads 16 is not "
	    "divisible by tensor-parallel-size 12; --tensor-parallel-size 8 "
	    "or 16 would work");
	refused("--tensor-parallel-size 8 --expert-parallel-size 3",
	    "n_routed_experts 16 is not divisible by expert-parallel-size 3; "
	    "--expert-parallel-size 2 or 4 would work");
	refused("--tensor-parallel-size 4 --expert-parallel-size 8",
	    "data-parallel-size * tensor-parallel-size 4 is not divisible by "
	    "expert-parallel-size 8; --expert-parallel-size 4 would work");
	refused("--pipeline-parallel-size 5", "num_hidden_layers 4 is fewer "
	    "than pipeline-parallel-size 5; --pipeline-parallel-size 4 would "
	    "work");
	refused("--data-parallel-size 1024 --tensor-parallel-size 2",
	    "data 1024 * tensor 2 * pipeline 1 are 2048 ranks, more than "
	    "1024");
	refused("--tensor-parallel-size 0", "--tensor-parallel-size must be "
	    "a whole number from 1 to 1024, not '0'");
	refused("--tensor-paralel-size 2", "no option --tensor-paralel-size; "
	    "there is --tensor-parallel-size, and test --help lists all");
}

static void
test_additional(void)
{
	noticed("--tensor-parallel-size 4 --additional-config "
	    "{\"expert_parallel\":4}", "expert_parallel 4 of "
	    "--additional-config is off without --enable-expert-parallel");
	tap_ok(d.layout.ep == 1, "and EP is off");
	noticed("--additional-config {\"x\":1}",
	    "--additional-config: x is not heeded");
	refused("--additional-config {\"expert-parallel\":4}",
	    "--additional-config: no key expert-parallel; there is "
	    "expert_parallel");
	refused("--additional-config [4]", "--additional-config must be an "
	    "object such as {\"expert_parallel\":4}, not an array");
	refused("--additional-config {\"expert_parallel\":0}",
	    "--additional-config: expert_parallel must be a whole number "
	    "from 1 to 1024, not 0");
	tap_ok(go("--additional-config {") == -1 && e.code == ERR_CALLER &&
	    strncmp(e.msg, "--additional-config: ", 21) == 0, "%s", e.msg);
}

/* ---- the YAML's rules: one line of a good file changed ---- */

static void
rule(const char *from, const char *to, const char *want)
{
	edit(from, to);
	refused("--mindformers-config edited.yaml", want);
}

/* A notice, and an error with --strict. */
static void
doubtful(const char *from, const char *to, const char *want)
{
	edit(from, to);
	noticed("--mindformers-config edited.yaml", want);
	refused("--strict --mindformers-config edited.yaml", want);
}

static void
test_words(void)
{
	rule("run_mode: 'predict'", "run_mode: finetune",
	    "edited.yaml:2: run_mode must be predict, not finetune");
	rule("load_ckpt_format: \"safetensors\"", "load_ckpt_format: ckpt",
	    "edited.yaml:5: load_ckpt_format must be safetensors, not ckpt: "
	    "there is no reader for others");
	rule("mode: 0", "mode: 2",
	    "edited.yaml:20: context.mode must be 0 or 1, not 2");
	rule("STAND_ALONE", "ALONE", "edited.yaml:25: parallel.parallel_mode "
	    "must be STAND_ALONE, MANUAL_PARALLEL, DATA_PARALLEL, "
	    "HYBRID_PARALLEL, SEMI_AUTO_PARALLEL or AUTO_PARALLEL, not ALONE");
	rule("use_past: True", "use_past: False", "edited.yaml:53: "
	    "model.model_config.use_past must be True: there is no attention "
	    "without it");
	rule("use_flash_attention: True", "use_flash_attention: no",
	    "edited.yaml:55: model.model_config.use_flash_attention must be "
	    "True: there is no attention without it");
	rule("router_dense_type: \"bfloat16\"", "router_dense_type: int8",
	    "edited.yaml:45: model.model_config.router_dense_type must be "
	    "bfloat16, float16 or float32, not int8");
	rule("weight_dtype: 'int8'", "weight_dtype: 'int4'",
	    "edited.yaml:63: model.model_config.quantization_config."
	    "weight_dtype must be int8, not int4");
	rule("use_past: True", "use_past: 3", "edited.yaml:53: "
	    "model.model_config.use_past must be True or False, not '3'");
	doubtful("quant_method: 'ptq'", "quant_method: magic",
	    "edited.yaml:62: quant_method magic is not one of ptq, osl, "
	    "smoothquant, gptq-perchannel, a8dynw8; the weights decide");
	doubtful("use_parallel: True", "use_parallel: False",
	    "edited.yaml:3: use_parallel False is not heeded: "
	    "parallel_config asks for several ranks");
}

static void
test_numbers(void)
{
	rule("num_heads: 16", "num_heads: 12", "edited.yaml:34: "
	    "model.model_config.num_heads 12 does not divide hidden_size "
	    "128; 8 or 16 would work");
	rule("num_experts_chosen: 4", "num_experts_chosen: 40",
	    "edited.yaml:70: moe_config.num_experts_chosen 40 is more than "
	    "expert_num 16; 1 to 16 would work");
	rule("n_group: 4", "n_group: 5", "edited.yaml:77: moe_config.n_group "
	    "5 does not divide expert_num 16; 4 or 8 would work");
	rule("topk_group: 2", "topk_group: 5", "edited.yaml:76: "
	    "moe_config.topk_group 5 is more than n_group 4; 1 to 4 would "
	    "work");
	rule("topk_group: 2", "topk_group: 3", "edited.yaml:76: "
	    "moe_config.topk_group 3 does not divide num_experts_chosen 4; "
	    "2 or 4 would work");
	rule("model_parallel: 4", "model_parallel: 0", "edited.yaml:14: "
	    "parallel_config.model_parallel must be a whole number from 1 to "
	    "1024, not 0");
	rule("hidden_size: 128", "hidden_size: -1", "edited.yaml:32: "
	    "model.model_config.hidden_size must be a whole number from 0 to "
	    "16777216, not -1");
	rule("num_heads: 16", "num_heads: 9000000000000000000",
	    "edited.yaml:34: model.model_config.num_heads must be a whole "
	    "number from 0 to 16777216, not 9000000000000000000");
	rule("expert_parallel: 4", "expert_parallel: 32", "n_routed_experts "
	    "16 is not divisible by expert-parallel-size 32; "
	    "--expert-parallel-size 16 would work");
}

static void
test_keys(void)
{
	rule("model_parallel: 4", "model_paralel: 4", "edited.yaml:14: "
	    "parallel_config.model_paralel is unknown; there is "
	    "parallel_config.model_parallel");
	rule("vocab_emb_dp: False", "tensors: 2", "edited.yaml:17: "
	    "parallel_config.tensors is unknown; parallel_config has "
	    "data_parallel, model_parallel, pipeline_stage and "
	    "expert_parallel");
	rule("parallel_config:", "paralel_config:", "edited.yaml:13: "
	    "paralel_config.data_parallel is unknown; there is "
	    "parallel_config.data_parallel");
	doubtful("expert_num: 16", "expert_nun: 16", "edited.yaml: unknown "
	    "keys: moe_config.expert_nun (line 69; there is "
	    "moe_config.expert_num)");
	doubtful("moe_config:", "moe_confg:", "edited.yaml: unknown keys: "
	    "moe_confg.expert_num (line 69; there is moe_config.expert_num), "
	    "moe_confg.num_experts_chosen (line 70; there is "
	    "moe_config.num_experts_chosen), moe_confg.shared_expert_num "
	    "(line 72; there is moe_config.shared_expert_num) and 5 more");
	edit("parallel_config:", "parallel_config: {}\nparallel0:");
	good("--mindformers-config edited.yaml", 1, 1, 1, 1, 1);
	edit("ffn_concat: True", "my_own: 3");
	good("--strict --mindformers-config edited.yaml", 4, 4, 1, 4, 1);
}

static void
test_model(void)
{
	char want[800];

	snprintf(want, sizeof(want), "edited.yaml describes another model "
	    "than %s/config.json, which is used: num_layers 61 (line 33) for "
	    "num_hidden_layers 4", demo);
	doubtful("num_layers: 4", "num_layers: 61", want);
	snprintf(want, sizeof(want), "edited.yaml describes another model "
	    "than %s/config.json, which is used: rms_norm_eps 1e-05 (line 43)"
	    " for rms_norm_eps 1e-06", demo);
	doubtful("1.0e-6", "1.0e-5", want);
	snprintf(want, sizeof(want), "edited.yaml describes another model "
	    "than %s/config.json, which is used: expert_num 32 (line 69) for "
	    "n_routed_experts 16", demo);
	doubtful("expert_num: 16", "expert_num: 32", want);
	refused("--max-model-len 40000", "--max-model-len 40000 is more than "
	    "the model's max_position_embeddings, 32768");
	refused("--block-size 17",
	    "--block-size must be 16, 32, 64 or 128, not 17");
	refused("--gpu-memory-utilization 0",
	    "--gpu-memory-utilization must be in (0, 1], not 0");
	refused("--model /nonexistent",
	    "open /nonexistent/config.json: No such file or directory");
	refused("--quantization awq", "--quantization must be ascend, "
	    "golden-stick, int8, fp8, compressed-tensors, w8a8_int8, "
	    "blockwise_int8 or smoothquant, not 'awq'");
}

/* ---- nodes ---- */

#define DP4 "--tensor-parallel-size 4 --data-parallel-size 4 " \
    "--enable-expert-parallel --expert-parallel-size 4 "

static unsigned
local_ranks(unsigned *first)
{
	unsigned n = 0;

	*first = 0;
	for (unsigned i = d.size; i-- > 0;)
		if (deploy_is_local(&d, i)) {
			n++;
			*first = i;
		}
	return n;
}

static void
test_nodes(void)
{
	unsigned first, n;

	good(DP4 "--data-parallel-size-local 2 --data-parallel-start-rank 0 "
	    "--data-parallel-address 192.10.10.10 "
	    "--data-parallel-rpc-port 12370", 4, 4, 1, 4, 1);
	n = local_ranks(&first);
	tap_ok(n == 8 && first == 0 && d.nodes == 2 && d.node == 0 &&
	    strcmp(d.lead, "192.10.10.10") == 0 && d.lead_port == 12370,
	    "the head has ranks 0-7 of 16");
	good(DP4 "--headless --data-parallel-size-local 2 "
	    "--data-parallel-start-rank 2 --data-parallel-address h", 4, 4, 1,
	    4, 1);
	n = local_ranks(&first);
	tap_ok(n == 8 && first == 8 && d.node == 1 && d.lead_port == 29550,
	    "the other node has 8-15");
	good("--tensor-parallel-size 16 --nnodes 2 --node-rank 1 --headless "
	    "--master-addr 10.0.0.1 --master-port 99", 16, 1, 1, 1, 1);
	n = local_ranks(&first);
	tap_ok(n == 8 && first == 8 && d.cut_ranks && d.lead_port == 99,
	    "the second of two nodes has ranks 8-15 of TP16");
	good(DP4 "--nnodes 2 --node-rank 1 --headless --master-addr x", 4, 4,
	    1, 4, 1);
	tap_ok(!d.cut_ranks && d.group0 == 2 && d.group1 == 4,
	    "groups stay whole where they can");
	good("--tensor-parallel-size 2 --data-parallel-size 2 "
	    "--pipeline-parallel-size 2 --enable-expert-parallel "
	    "--data-parallel-size-local 1 --data-parallel-address x", 2, 2, 2,
	    4, 1);
	tap_ok(deploy_is_local(&d, 0) && !deploy_is_local(&d, 2) &&
	    deploy_is_local(&d, 4) && !deploy_is_local(&d, 7),
	    "a DP group's ranks of both stages");
}

static void
test_bad_nodes(void)
{
	refused(DP4 "--data-parallel-size-local 3 "
	    "--data-parallel-start-rank 2", "--data-parallel-start-rank 2 + "
	    "--data-parallel-size-local 3 are more than --data-parallel-size "
	    "4; --data-parallel-size-local 2 would work");
	refused(DP4 "--data-parallel-start-rank 4", "--data-parallel-start-"
	    "rank 4 must be less than --data-parallel-size 4");
	refused(DP4 "--headless --data-parallel-start-rank 2",
	    "--headless is for nodes that do not lead: it needs "
	    "--data-parallel-address");
	refused(DP4 "--headless --data-parallel-address x",
	    "--headless is for nodes that do not lead: it needs "
	    "--data-parallel-start-rank or --node-rank above 0");
	refused(DP4 "--data-parallel-start-rank 2 --data-parallel-address x",
	    "a node without group 0 does not lead and needs --headless");
	refused("--nnodes 2 --node-rank 2", "--node-rank 2 must be less than "
	    "--nnodes 2");
	refused("--node-rank 1", "--node-rank needs --nnodes");
	refused("--nnodes 3 --tensor-parallel-size 16", "16 ranks cannot be "
	    "shared evenly by --nnodes 3; 2 or 4 would work");
	refused(DP4 "--nnodes 2 --data-parallel-size-local 2", "--nnodes and "
	    "--data-parallel-size-local exclude each other");
	refused("--data-parallel-address a --master-addr b",
	    "--data-parallel-address a and --master-addr b must be the same");
	refused("--data-parallel-address a/b", "--data-parallel-address must "
	    "be an address or a host's name, not 'a/b'");
	noticed(DP4 "--data-parallel-size-local 2", "other nodes can't reach "
	    "127.0.0.1: name the address of this one with "
	    "--data-parallel-address");
}

static void
test_executor(void)
{
	noticed("--distributed-executor-backend=ray",
	    "--distributed-executor-backend ray: there is no Ray here; mp is "
	    "used: each node starts its own ranks");
	tap_ok(d.runs_on == DEPLOY_MP, "ray becomes mp");
	refused("--distributed-executor-backend uni --tensor-parallel-size 2",
	    "--distributed-executor-backend uni runs 1 rank, the layout has "
	    "2; mp would work");
	setenv("OMPI_COMM_WORLD_SIZE", "8", 1);
	refused("--distributed-executor-backend mpi --tensor-parallel-size 4",
	    "data 1 * tensor 4 * pipeline 1 are 4 ranks, the MPI launcher "
	    "has started 8");
	good("--distributed-executor-backend mpi --tensor-parallel-size 8", 8,
	    1, 1, 1, 1);
	refused("--distributed-executor-backend mpi --tensor-parallel-size 8 "
	    "--headless", "--headless is not for --distributed-executor-"
	    "backend mpi: the MPI launcher starts the ranks of all nodes");
	refused("--tensor-parallel-size 4", "the MPI launcher has started 8 "
	    "processes, and each would start 4 ranks; with "
	    "--distributed-executor-backend mpi they are the ranks");
	noticed("--distributed-executor-backend ray --tensor-parallel-size 8",
	    "--distributed-executor-backend ray: there is no Ray here; mpi "
	    "is used: its launcher has started the ranks");
	clear_env();
}

/* ---- the environment ---- */

static void
test_interface(void)
{
	setenv("HCCL_SOCKET_IFNAME", "hccl0", 1);
	setenv("GLOO_SOCKET_IFNAME", "", 1);
	tap_ok(go("") == 0 && strcmp(d.ifname, "hccl0") == 0,
	    "HCCL_SOCKET_IFNAME, last of four");
	setenv("TP_SOCKET_IFNAME", "tp0", 1);
	tap_ok(go("") == 0 && strcmp(d.ifname, "tp0") == 0 &&
	    strcmp(d.ifname_from, "TP_SOCKET_IFNAME") == 0,
	    "TP_SOCKET_IFNAME goes before it");
	setenv("DSI_SOCKET_IFNAME", "eth0", 1);
	tap_ok(go("") == 0 && strcmp(d.ifname, "eth0") == 0,
	    "DSI_SOCKET_IFNAME goes before all");
	setenv("DSI_SOCKET_IFNAME", "eth0,eth1", 1);
	refused("", "DSI_SOCKET_IFNAME must be the name of one network "
	    "interface, such as eth0, not 'eth0,eth1'");
	unsetenv("DSI_SOCKET_IFNAME");
	setenv("TP_SOCKET_IFNAME", "^docker", 1);
	noticed("", "TP_SOCKET_IFNAME='^docker' is not the name of one "
	    "network interface; it is not heeded");
	tap_ok(strcmp(d.ifname, "hccl0") == 0, "the next one is");
	clear_env();
	tap_ok(go("") == 0 && !*d.ifname && !d.ifname_from, "none");
}

static void
test_places(void)
{
	static const char *const bad[] = { "0,", ",1", "a", "1-", "3-1",
	    "0,0", "0-3,2", "1024", "99999999999", "1 2", "-1", "0;1" };

	setenv("ASCEND_RT_VISIBLE_DEVICES", "0,1,2-5", 1);
	tap_ok(go("") == 0 && d.nplace == 6 && d.place[5] == 5,
	    "0,1,2-5 are six places");
	setenv("DSI_VISIBLE_DEVICES", "7, 3", 1);
	tap_ok(go("") == 0 && d.nplace == 2 && d.place[0] == 7 &&
	    strcmp(d.place_from, "DSI_VISIBLE_DEVICES") == 0,
	    "DSI_VISIBLE_DEVICES goes before, in its own order");
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		char want[200];

		setenv("DSI_VISIBLE_DEVICES", bad[i], 1);
		snprintf(want, sizeof(want), "DSI_VISIBLE_DEVICES must be a "
		    "list such as 0,1,4-7, numbers from 0 to 1023, each "
		    "once, not '%s'", bad[i]);
		refused("", want);
	}
	clear_env();
}

static void
test_partition(void)
{
	setenv("VLLM_PP_LAYER_PARTITION", "2,2", 1);
	tap_ok(go("--pipeline-parallel-size 2") == 0 && d.nnotice == 0,
	    "VLLM_PP_LAYER_PARTITION that is our own");
	setenv("VLLM_PP_LAYER_PARTITION", "1,3", 1);
	noticed("--pipeline-parallel-size 2", "VLLM_PP_LAYER_PARTITION=1,3 "
	    "is not heeded: stages share the layers evenly");
	refused("--pipeline-parallel-size 3", "VLLM_PP_LAYER_PARTITION has 2 "
	    "numbers, pipeline-parallel-size is 3");
	setenv("VLLM_PP_LAYER_PARTITION", "2,3", 1);
	refused("--pipeline-parallel-size 2", "VLLM_PP_LAYER_PARTITION sums "
	    "up to 5 layers, num_hidden_layers is 4");
	setenv("VLLM_PP_LAYER_PARTITION", "2;3", 1);
	refused("--pipeline-parallel-size 2", "VLLM_PP_LAYER_PARTITION must "
	    "be numbers of layers with commas between, not '2;3'");
	clear_env();
}

/* ---- plans ---- */

static struct deploy_plan p;

static bool
plan(const char *line, uint64_t per_host)
{
	struct deploy_memory m = { .per_host = per_host };

	deploy_plan_free(&p);
	if (go(line) == -1 || deploy_plan(&p, &d, &m, &e) == -1) {
		tap_ok(0, "%s: %s", line, e.msg);
		return false;
	}
	return true;
}

/* An int8 layer of n x k: weights, column sums, scales; n a multiple of 16 */
static uint64_t
i8(uint64_t n, uint64_t k)
{
	return n * k + 8 * n;
}

/* FP8: weights, a scale for each row and 128 inputs */
static uint64_t
f8(uint64_t n, uint64_t k)
{
	return n * k + 4 * n * ((k + 127) / 128);
}

/* What stands in a rank's files, by hand (dsi-shard(5)): R1, int8, of heads
 * heads, a TP-th of dense layers, nexp experts w wide whose outputs are cut
 * in cols columns. */
static uint64_t
by_hand(uint64_t heads, uint64_t tp, uint64_t nexp, uint64_t w, uint64_t cols)
{
	uint64_t kv_b = heads * 256 * 512 * 2, out = 7168 / tp, sum;
	uint64_t norms = (7168 + 1536 + 512 + 7168) * 4;
	uint64_t attn = norms + i8(1536, 7168) + i8(576, 7168) +
	    i8(heads * 192, 1536) + kv_b + i8(out, 16384);
	uint64_t dense = 2 * i8(18432 / tp, 7168) + i8(out, 18432);
	uint64_t gate = 256 * 7168 * 2 + 256 * 4;
	uint64_t moe = gate + 2 * i8(128, 7168) + i8(448, 2048) +
	    nexp * (2 * i8(w, 7168) + i8(cols, 2048));
	uint64_t mtp = norms + 3 * 7168 * 4 + 7168 * 14336 * 2 +
	    f8(1536, 7168) + f8(576, 7168) + f8(heads * 192, 1536) + kv_b +
	    f8(out, 16384) + gate + 2 * f8(128, 7168) + f8(448, 2048) +
	    nexp * (2 * f8(w, 7168) + f8(cols, 2048));

	sum = 129280ull * 7168 * 2;		/* embedding */
	sum += 7168 * 4 + 129280 / tp * 7168 * 2;	/* norm, head */
	return sum + 61 * attn + 3 * dense + 58 * moe + mtp;
}

static void
close_to(unsigned rank, uint64_t want)
{
	uint64_t got = p.rank[rank].weight_bytes;

	/* headers: some hundred bytes for each of 130,000 tensors at most */
	tap_ok(got > want && got - want < want / 1000,
	    "rank %u has %llu bytes, by hand %llu and headers", rank,
	    (unsigned long long)got, (unsigned long long)want);
}

static void
test_r1(void)
{
	const struct deploy_rank_plan *r;
	uint64_t start = now_ns();

	if (!plan("--tensor-parallel-size 16 --quantization ascend r1.json",
	    0))
		return;
	r = &p.rank[15];
	tap_ok(p.n == 16 && r->part.heads1 - r->part.heads0 == 8 &&
	    r->part.expert1 - r->part.expert0 == 256 &&
	    r->part.moe1 - r->part.moe0 == 128, "TP16: 8 heads, 256 x 128");
	tap_ok(r->kv_token == 70272, "70272 bytes a token");
	tap_ok(strcmp(p.weights_are, "int8 (--quantization ascend)") == 0,
	    "weights: %s", p.weights_are);
	tap_ok(!p.known, "a config.json alone is no host");
	close_to(0, by_hand(8, 16, 256, 128, 448));
	close_to(15, by_hand(8, 16, 256, 128, 448));
	if (!plan("--tensor-parallel-size 4 --data-parallel-size 4 "
	    "--expert-parallel-size 4 --quantization ascend r1.json", 0))
		return;
	r = &p.rank[6];
	tap_ok(r->part.heads1 - r->part.heads0 == 32 && r->group == 1 &&
	    r->part.expert0 == 64 && r->part.expert1 == 128 &&
	    r->part.moe1 - r->part.moe0 == 512,
	    "DP4TP4EP4: 32 heads, 64 x 512");
	close_to(6, by_hand(32, 4, 64, 512, 1792));
	tap_ok(now_ns() - start < 2000000000u, "both in less than 2 s");
	plan("--tensor-parallel-size 16 r1.json", 0);
	tap_ok(strcmp(p.weights_are, "fp8 (config.json)") == 0,
	    "weights: %s", p.weights_are);
	tap_ok(go("--quantization fp8 --load-format dummy") == -1 &&
	    strstr(e.msg, "config.json says int8"), "%s", e.msg);
}

/* Bytes that a rank receives, against sums made by hand. */
static void
test_traffic(void)
{
	const struct deploy_traffic *t;

	if (!plan("--tensor-parallel-size 16 --quantization int8 r1.json", 0))
		return;
	/* attention 3, MLP 2, experts 2 */
	t = &p.rank[0].traffic;
	tap_ok(t->exchanges == 61 * 3 + 3 * 2 + 58 * 2, "%u exchanges",
	    t->exchanges);
	tap_ok(t->own_row == 61ull * (7920 + 61440 + 26880) +
	    3ull * (69120 + 26880) + 58ull * (61440 + 7680 + 26880) &&
	    t->other_row == 0,
	    "%llu bytes a row", (unsigned long long)t->own_row);
	tap_ok(t->logits == 0 && p.rank[1].traffic.logits == 8080 * 4,
	    "logits come from all but the lead");
	plan(DP4 "--quantization int8 r1.json", 0);
	t = &p.rank[0].traffic;
	tap_ok(t->exchanges == 61 * 3 + 3 * 2 + 58 * 3, "%u exchanges",
	    t->exchanges);
	tap_ok(t->own_row == 61ull * (6336 + 49152 + 21504) +
	    3ull * (55296 + 21504) + 58ull *
	    (12288 + 7680 + 3 * 448 * 8 + 26880),
	    "%llu bytes a row", (unsigned long long)t->own_row);
	tap_ok(t->other_row == 61ull * 28672 + 3ull * 28672 + 58ull *
	    (12288 + 7680 + 3 * 448 * 8 + 26880), "%llu for another's",
	    (unsigned long long)t->other_row);
	plan("", 0);
	tap_ok(p.rank[0].traffic.exchanges == 0 &&
	    p.rank[0].traffic.own_row == 0, "one rank talks to nobody");
}

static void
test_memory(void)
{
	const struct deploy_rank_plan *r;
	uint64_t block = 70272 * 128, fixed;

	plan("--tensor-parallel-size 16 --quantization int8 --nnodes 2 "
	    "--max-model-len 32768 --master-addr x r1.json", 512ull << 30);
	r = &p.rank[0];
	fixed = r->weight_bytes + r->work_bytes;
	tap_ok(p.known && p.fits && p.host_ranks == 8 && p.per_rank ==
	    64ull << 30 && p.budget == (uint64_t)(0.9 * (64ull << 30)),
	    "512 GiB over 8 ranks");
	tap_ok(p.blocks == (p.budget - fixed) / block && p.context == 32768 &&
	    p.sequences == p.blocks / 256, "%llu blocks, %llu sequences",
	    (unsigned long long)p.blocks, (unsigned long long)p.sequences);
	tap_ok(p.hosts == 2, "two such hosts");
	plan("--tensor-parallel-size 16 --quantization int8 --nnodes 2 "
	    "--max-model-len 32768 --master-addr x r1.json", 256ull << 30);
	tap_ok(p.known && !p.fits && p.need == fixed + 256 * block &&
	    p.hosts == 4 && p.blocks == 0, "256 GiB: four such hosts");
	plan("--tensor-parallel-size 16 --quantization int8 "
	    "--num-blocks 10 --max-model-len 2048 r1.json", 2048ull << 30);
	tap_ok(p.known && !p.fits && p.blocks == 10, "10 blocks hold 1280");
	plan("--num-blocks 10 --max-model-len 1280", 1ull << 30);
	tap_ok(p.fits && p.sequences == 1 && p.context == 1280,
	    "but 1280 they do");
	plan("", 0);
	tap_ok(p.known && p.host > 0 && p.avail > 0, "this host");
}

/* ---- rank files ---- */

/* One host of many, each with its own memory and ranks: two stages here, of
 * which the second is larger. */
static void
test_fit(void)
{
	static const unsigned first[] = { 0, 1 }, second[] = { 2, 3 };
	struct deploy_memory m = { .elsewhere = true };

	deploy_plan_free(&p);
	if (!tap_ok(go("--tensor-parallel-size 2 --pipeline-parallel-size 2 "
	    "--quantization int8 --max-model-len 4096 r1.json") == 0 &&
	    deploy_plan(&p, &d, &m, &e) == 0 && !p.known, "hosts elsewhere"))
		return;
	m.per_host = 2 * (p.rank[0].need_one + 1) * 10 / 9 + 2;
	deploy_fit(&p, &d, &m, first, 2);
	tap_ok(p.known && p.fits && p.worst == 0 && p.host_ranks == 2 &&
	    p.need == p.rank[0].need_one, "the first stage fits exactly");
	m.per_host -= 8;
	deploy_fit(&p, &d, &m, first, 2);
	tap_ok(!p.fits, "and not into less");
	deploy_fit(&p, &d, &m, second, 2);
	tap_ok(p.worst >= 2 && p.need == p.rank[p.worst].need_one &&
	    p.fits == (p.budget >= p.need), "the second has its own needs");
	tap_ok(deploy_set_node(&d, 1, 2, &e) == 0 && d.cut_ranks &&
	    !deploy_is_local(&d, 1) && deploy_is_local(&d, 2),
	    "node 1 of 2 has the upper half");
	tap_ok(deploy_set_node(&d, 0, 3, &e) == -1 && strstr(e.msg,
	    "4 ranks cannot be shared evenly by hosts, which are 3"),
	    "three can't share: %s", e.msg);
}

static void
test_rank_files(void)
{
	struct shard_opts o = { .model = demo, .out = "ranks",
	    .layout = { 4, 2, 1, 4 } };
	char want[1100];

	if (shard_run(&o, &e) == -1) {
		tap_ok(0, "shard: %s", e.msg);
		return;
	}
	good("ranks", 4, 2, 1, 4, 1);
	good("--tensor-parallel-size 4 --data-parallel-size 2 "
	    "--expert-parallel-size 4 ranks", 4, 2, 1, 4, 1);
	snprintf(want, sizeof(want), "ranks was made for tensor 4, data 2, "
	    "pipeline 1, expert 4, not for tensor 2, data 1, pipeline 1, "
	    "expert 1; dsi-shard makes others from %s", demo);
	refused("--tensor-parallel-size 2 ranks", want);
	o.out = "dp2";
	o.layout = (struct layout){ 2, 2, 1, 1 };
	tap_ok(shard_run(&o, &e) == 0, "dp2: %s", e.msg);
	good("--tensor-parallel-size 2 --data-parallel-size 2 dp2", 2, 2, 1,
	    1, 1);
	plan("ranks", 0);
	tap_ok(p.rank[0].weight_bytes > 100000 &&
	    strcmp(p.weights_are, "int8-channel (the rank files)") == 0,
	    "weights: %s", p.weights_are);
}

/* The files that MindFormers ships, where a checkout has them. */
static void
test_real(void)
{
	static const struct {
		const char *file;
		unsigned tp, dp, ep;
	} real[] = {
		{ "predict_deepseek_r1_671b", 32, 1, 1 },
		{ "predict_deepseek_r1_671b_w8a8", 16, 1, 1 },
		{ "predict_deepseek_r1_671b_w8a8_ep4tp4", 4, 4, 4 },
	};
	const char *dir = getenv("DSI_SHARED");
	char line[1024], path[900];

	for (size_t i = 0; i < sizeof(real) / sizeof(*real); i++) {
		snprintf(path, sizeof(path), "%.400s%s/reference/yaml/%s.yaml",
		    dir ? dir : tap_top(), dir ? "" : "/../shared",
		    real[i].file);
		if (access(path, R_OK) == -1) {
			tap_skip(real[i].file, "not here");
			continue;
		}
		snprintf(line, sizeof(line), "--strict --mindformers-config "
		    "%s r1.json", path);
		good(line, real[i].tp, real[i].dp, 1, real[i].ep, 1);
	}
}

int
main(void)
{
	clear_env();
	snprintf(demo, sizeof(demo), "%.400s/share/demo/model", tap_top());
	snprintf(yaml16, sizeof(yaml16), "%.400s/t/conf/tp16.yaml",
	    tap_top());
	snprintf(yaml4, sizeof(yaml4), "%.400s/t/conf/dp4tp4ep4.yaml",
	    tap_top());
	if (io_write_file("r1.json", r1, strlen(r1), &e) == -1)
		tap_ok(0, "r1.json: %s", e.msg);
	test_layouts();
	test_yaml();
	test_splits();
	test_additional();
	test_words();
	test_numbers();
	test_keys();
	test_model();
	test_nodes();
	test_bad_nodes();
	test_executor();
	test_interface();
	test_places();
	test_partition();
	test_r1();
	test_traffic();
	test_memory();
	test_fit();
	test_rank_files();
	test_real();
	deploy_plan_free(&p);
	deploy_free(&d);
	return tap_done();
}
