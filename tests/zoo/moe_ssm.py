"""Mixtures of experts, and hybrids of attention with state-space or linear-attention layers."""

from tests.zoo.case import COMMON, Draw, Inputs, ZooCase, tiny
from tests.zoo.tokens import length

GROUPED = {**COMMON, "num_key_value_heads": 2, "head_dim": 8}
EXPERTS = {**GROUPED, "num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4,
           "num_experts_per_tok": 2, "moe_intermediate_size": 16,
           "shared_expert_intermediate_size": 16}  # fmt: skip
LATENT = {**EXPERTS, "num_key_value_heads": 4, "kv_lora_rank": 8, "q_lora_rank": 16,
          "qk_nope_head_dim": 8, "qk_rope_head_dim": 4, "v_head_dim": 8, "head_dim": 4,
          "n_group": 2, "topk_group": 1, "n_shared_experts": 1,
          "first_k_dense_replace": 1}  # fmt: skip
MAMBA = {"mamba_d_state": 8, "mamba_d_conv": 4, "mamba_expand": 2, "mamba_n_heads": 4,
         "mamba_n_groups": 1, "mamba_d_head": 16, "mamba_chunk_size": 4, "mamba_headdim": 16,
         "use_mamba_kernels": False}  # fmt: skip
LINEAR = {"layer_types": ["linear_attention", "full_attention"], "linear_num_key_heads": 2,
          "linear_num_value_heads": 4, "linear_key_head_dim": 8,
          "linear_value_head_dim": 8}  # fmt: skip


BEHIND = "each of input_ids[:] with input_ids"
"""A short convolution stands behind the last attention: it reads the words before, too."""


def padded(d: Draw) -> Inputs:
    return d.text(11, 9)


def case(name, model, inputs=padded, *, nodes=2, family="moe", base=EXPERTS, note="",
         returned=True, recorded="", configure=None, reads="each of input_ids[:]",
         **config):  # fmt: skip
    build = tiny(model, {**base, **config}, inputs, configure=configure)
    return ZooCase(name, family, build, {"self": nodes} if nodes else {}, note=note,
                   returned=returned, recorded=recorded,
                   tokens={"input_ids": length} if nodes else {},
                   reads=reads)  # fmt: skip


def hybrid(name, model, inputs=padded, *, nodes=1, base=None, **config):
    return case(name, model, inputs, nodes=nodes, family="state space",
                base={**EXPERTS, **MAMBA} if base is None else base, **config)  # fmt: skip


CASES = [
    case("mixtral", "MixtralForCausalLM"),
    case("qwen2-moe", "Qwen2MoeForCausalLM"),
    case("qwen3-moe", "Qwen3MoeForCausalLM"),
    case("olmoe", "OlmoeForCausalLM"),
    case("gpt-oss", "GptOssForCausalLM", sliding_window=4,
         layer_types=["sliding_attention", "full_attention"], note="attention sinks"),
    case("deepseek-v2", "DeepseekV2ForCausalLM", base=LATENT, note="latent attention"),
    case("deepseek-v3", "DeepseekV3ForCausalLM", base=LATENT, note="latent attention"),
    case("dbrx", "DbrxForCausalLM", base={
        "vocab_size": 99, "d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": 64,
        "attn_config": {"kv_n_heads": 2, "clip_qkv": 8.0}, "pad_token_id": 0,
        "ffn_config": {"ffn_hidden_size": 16, "hidden_size": 32, "moe_num_experts": 4,
                       "moe_top_k": 2}},
         configure=lambda config: setattr(config.attn_config, "rope_theta", 10000.0)),
    case("phimoe", "PhimoeForCausalLM"),
    case("granitemoe", "GraniteMoeForCausalLM"),
    case("granitemoe-shared", "GraniteMoeSharedForCausalLM", shared_intermediate_size=16),
    case("jetmoe", "JetMoeForCausalLM", kv_channels=8, num_key_value_heads=2),
    case("glm4-moe", "Glm4MoeForCausalLM", n_group=1, topk_group=1, first_k_dense_replace=1),
    case("ernie4-5-moe", "Ernie4_5_MoeForCausalLM", moe_num_experts=4, moe_k=2),
    case("hunyuan-moe", "HunYuanMoEV1ForCausalLM", moe_topk=2),
    case("llama4-text", "Llama4ForCausalLM", intermediate_size_mlp=40, attention_chunk_size=4,
         num_experts_per_tok=1, note="chunked attention"),
    case("minimax", "MiniMaxForCausalLM", nodes=1, block_size=4, returned=False,
         recorded="self_attn$",
         layer_types=["linear_attention", "full_attention"]),
    case("dots1", "Dots1ForCausalLM", n_group=1, topk_group=1, n_shared_experts=1,
         first_k_dense_replace=1),
    case("flex-olmo", "FlexOlmoForCausalLM"),
    case("qwen3-next", "Qwen3NextForCausalLM", base={**EXPERTS, **LINEAR}, nodes=1),
    case("qwen3-5", "Qwen3_5ForCausalLM", base={**EXPERTS, **LINEAR}, nodes=1),
    hybrid("jamba", "JambaForCausalLM", attn_layer_period=2, attn_layer_offset=1,
           expert_layer_period=2, expert_layer_offset=1, mamba_dt_rank=4),
    hybrid("bamba", "BambaForCausalLM", attn_layer_indices=[1]),
    hybrid("zamba", "ZambaForCausalLM", attn_layer_period=2, attn_layer_offset=1,
           num_key_value_heads=4, head_dim=16, attention_head_dim=16, n_mamba_heads=2,
           mamba_dt_rank=4, num_hidden_layers=4, nodes=2,
           layers_block_type=["mamba", "hybrid", "mamba", "hybrid"], reads=BEHIND),
    hybrid("zamba2", "Zamba2ForCausalLM", num_hidden_layers=2, num_key_value_heads=4, head_dim=16,
           attention_head_dim=16, mamba_ngroups=1, n_mamba_heads=4,
           chunk_size=4, layers_block_type=["mamba", "hybrid"], num_mem_blocks=1,
           use_shared_attention_adapter=False, adapter_rank=4, reads=BEHIND),
    hybrid("falcon-h1", "FalconH1ForCausalLM", nodes=2, mamba_d_ssm=64),
    hybrid("granitemoe-hybrid", "GraniteMoeHybridForCausalLM", layer_types=["mamba", "attention"],
           shared_intermediate_size=16),
    hybrid("nemotron-h", "NemotronHForCausalLM", layers_block_type=["mamba", "attention", "mlp"],
           ssm_state_size=8, mamba_num_heads=4, mamba_head_dim=16, n_groups=1, chunk_size=4),
    hybrid("lfm2", "Lfm2ForCausalLM", layer_types=["conv", "full_attention"],
           block_auto_adjust_ff_dim=False, note="short convolutions between attentions"),
    hybrid("recurrent-gemma", "RecurrentGemmaForCausalLM", num_hidden_layers=3, lru_width=32,
           attention_window_size=8, block_types=["recurrent", "recurrent", "attention"],
           returned=False, recorded="temporal_block"),
    hybrid("kimi-linear", "KimiLinearForCausalLM", base={**LATENT, **LINEAR}),
    hybrid("mamba", "MambaForCausalLM", nodes=0, base={
        "vocab_size": 99, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 8},
        returned=False, note="no attention at all"),
    hybrid("mamba2", "Mamba2ForCausalLM", nodes=0, base={
        "vocab_size": 99, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 8,
        "num_heads": 4, "head_dim": 16, "n_groups": 1, "chunk_size": 4},
        returned=False, note="no attention at all"),
]  # fmt: skip
