"""Causal language models: learned, rotary and ALiBi positions, grouped queries, windows, caps."""

from tests.zoo.case import COMMON, Draw, Inputs, ZooCase, tiny
from tests.zoo.tokens import length

GROUPED = {**COMMON, "num_key_value_heads": 2, "head_dim": 8}
GPT = {"vocab_size": 99, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64,
       "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}  # fmt: skip
SLIDING = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 4}


def padded(d: Draw) -> Inputs:
    return d.text(11, 9)


def decoder(name, model, inputs=padded, *, nodes=2, base=COMMON, note="", unseen=0,
            returned=True, recorded="", eager=True, **config):  # fmt: skip
    """A classifier reads the last word piece that is no padding."""
    reads = "input_ids[real]" if "Classification" in model else "each of input_ids[:]"
    build = tiny(model, {**base, **config}, inputs)
    return ZooCase(name, "decoder", build, {"self": nodes}, unseen=unseen, note=note,
                   returned=returned, recorded=recorded, eager=eager, tokens={"input_ids": length},
                   reads=reads)  # fmt: skip


CASES = [
    decoder("gpt2", "GPT2LMHeadModel", base=GPT),
    decoder("gpt2-classifier", "GPT2ForSequenceClassification", base=GPT,
            note="reads the last real position"),
    decoder("openai-gpt", "OpenAIGPTLMHeadModel", base=GPT),
    decoder("gpt-neo", "GPTNeoForCausalLM", num_layers=2, num_heads=4, window_size=4,
            attention_types=[[["global", "local"], 1]], note="scores are not scaled"),
    decoder("gpt-neox", "GPTNeoXForCausalLM", note="attention and MLP in parallel"),
    decoder("gpt-neox-japanese", "GPTNeoXJapaneseForCausalLM"),
    decoder("gptj", "GPTJForCausalLM", base=GPT, rotary_dim=4),
    decoder("gpt-bigcode", "GPTBigCodeForCausalLM", base=GPT, note="one key head"),
    decoder("codegen", "CodeGenForCausalLM", base=GPT, rotary_dim=4),
    decoder("ctrl", "CTRLLMHeadModel", base={**GPT, "dff": 40}),
    decoder("opt", "OPTForCausalLM", ffn_dim=40, word_embed_proj_dim=16),
    decoder("bloom", "BloomForCausalLM", n_layer=2, n_head=4, note="ALiBi, heads in the batch"),
    decoder("falcon", "FalconForCausalLM", note="one key head"),
    decoder("falcon-alibi", "FalconForCausalLM", alibi=True, new_decoder_architecture=True,
            num_kv_heads=2, returned=False, recorded="self_attention$", eager=False,
            note="its eager path adds the bias twice"),
    decoder("mpt", "MptForCausalLM", base={"vocab_size": 99, "d_model": 32, "n_heads": 4,
            "n_layers": 2, "max_seq_len": 32, "expansion_ratio": 2}),
    decoder("biogpt", "BioGptForCausalLM"),
    decoder("xglm", "XGLMForCausalLM", d_model=32, attention_heads=4, num_layers=2, ffn_dim=40),
    decoder("llama", "LlamaForCausalLM", base=GROUPED),
    decoder("llama-equal-heads", "LlamaForCausalLM", lambda d: d.text(9, 9), head_dim=8),
    decoder("llama-classifier", "LlamaForSequenceClassification", base=GROUPED),
    decoder("mistral", "MistralForCausalLM", base=GROUPED, sliding_window=4),
    decoder("ministral", "MinistralForCausalLM", base={**GROUPED, **SLIDING}),
    decoder("qwen2", "Qwen2ForCausalLM", base=GROUPED),
    decoder("qwen3", "Qwen3ForCausalLM", base=GROUPED),
    decoder("gemma", "GemmaForCausalLM", base=GROUPED),
    decoder("gemma2", "Gemma2ForCausalLM", base=GROUPED, query_pre_attn_scalar=8,
            attn_logit_softcapping=2.0, sliding_window=4, note="soft-capped scores"),
    decoder("gemma3", "Gemma3ForCausalLM", base={**GROUPED, **SLIDING}, query_pre_attn_scalar=8),
    decoder("gemma3n", "Gemma3nForCausalLM", base={**GROUPED, **SLIDING},
            num_kv_shared_layers=0, hidden_size_per_layer_input=8, vocab_size_per_layer_input=99,
            laurel_rank=8, altup_num_inputs=2, activation_sparsity_pattern=[0.0, 0.0]),
    decoder("vaultgemma", "VaultGemmaForCausalLM", base={**GROUPED, **SLIDING},
            query_pre_attn_scalar=8),
    decoder("phi", "PhiForCausalLM"),
    decoder("phi3", "Phi3ForCausalLM", base=GROUPED),
    decoder("olmo", "OlmoForCausalLM", base=GROUPED),
    decoder("olmo2", "Olmo2ForCausalLM", base=GROUPED),
    decoder("olmo3", "Olmo3ForCausalLM", base={**GROUPED, **SLIDING}),
    decoder("cohere", "CohereForCausalLM", base=GROUPED),
    decoder("cohere2", "Cohere2ForCausalLM", base={**GROUPED, **SLIDING}),
    decoder("starcoder2", "Starcoder2ForCausalLM", base=GROUPED),
    decoder("stablelm", "StableLmForCausalLM", base=GROUPED, use_parallel_residual=True,
            qk_layernorm=True),
    decoder("persimmon", "PersimmonForCausalLM"),
    decoder("nemotron", "NemotronForCausalLM", base=GROUPED),
    decoder("granite", "GraniteForCausalLM", base=GROUPED, attention_multiplier=0.3),
    decoder("glm", "GlmForCausalLM", base=GROUPED),
    decoder("glm4", "Glm4ForCausalLM", base=GROUPED),
    decoder("helium", "HeliumForCausalLM", base=GROUPED),
    decoder("bitnet", "BitNetForCausalLM", base=GROUPED),
    decoder("apertus", "ApertusForCausalLM", base=GROUPED),
    decoder("smollm3", "SmolLM3ForCausalLM", base=GROUPED),
    decoder("exaone4", "Exaone4ForCausalLM", base={**GROUPED, **SLIDING}),
    decoder("minicpm3", "MiniCPM3ForCausalLM", num_key_value_heads=4, q_lora_rank=16,
            kv_lora_rank=8, qk_nope_head_dim=8, qk_rope_head_dim=4, v_head_dim=8, head_dim=4,
            note="latent attention"),
    decoder("diffllama", "DiffLlamaForCausalLM", base=GROUPED, nodes=4, unseen=2,
            note="two maps subtracted; the fused calls take half of the values each"),
    decoder("doge", "DogeForCausalLM", base=GROUPED, keep_window_size=64),
    decoder("arcee", "ArceeForCausalLM", base=GROUPED),
    decoder("modernbert-decoder", "ModernBertDecoderForCausalLM", cls_token_id=1, sep_token_id=2,
            local_attention=4, global_attn_every_n_layers=2),
    decoder("nanochat", "NanoChatForCausalLM", base=GROUPED),
    decoder("youtu", "YoutuForCausalLM", num_key_value_heads=4, q_lora_rank=16,
            kv_lora_rank=8, qk_nope_head_dim=8, qk_rope_head_dim=4, v_head_dim=8, head_dim=4),
]  # fmt: skip
