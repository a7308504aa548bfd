"""``config.json`` of a tiny encoder of each architecture, without its vocabulary."""

from typing import Any

from tests.engine.tiny import WIDTH

Json = dict[str, Any]

MAX_TOKENS = 60

_SIZES = {"hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 4}
_ROBERTA: Json = {
    **_SIZES,
    "intermediate_size": 48,
    "hidden_act": "gelu",
    "max_position_embeddings": 66,
    "type_vocab_size": 1,
    "layer_norm_eps": 1e-5,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
}

CONFIGS: dict[str, Json] = {
    "roberta": {**_ROBERTA, "model_type": "roberta", "architectures": ["RobertaModel"]},
    "xlm-roberta": {
        **_ROBERTA,
        "model_type": "xlm-roberta",
        "architectures": ["XLMRobertaModel"],
    },
    "camembert": {**_ROBERTA, "model_type": "camembert", "architectures": ["CamembertModel"]},
    "distilbert": {
        "architectures": ["DistilBertModel"],
        "model_type": "distilbert",
        "dim": WIDTH,
        "hidden_dim": 48,
        "n_layers": 2,
        "n_heads": 4,
        "activation": "gelu",
        "max_position_embeddings": 64,
        "pad_token_id": 0,
    },
    "mpnet": {
        **_SIZES,
        "architectures": ["MPNetModel"],
        "model_type": "mpnet",
        "intermediate_size": 48,
        "hidden_act": "gelu",
        "max_position_embeddings": 66,
        "layer_norm_eps": 1e-5,
        "relative_attention_num_buckets": 32,
    },
    "modernbert": {
        **_SIZES,
        "architectures": ["ModernBertModel"],
        "model_type": "modernbert",
        "num_hidden_layers": 4,
        "intermediate_size": 40,
        "max_position_embeddings": 96,
        "local_attention": 8,
        "global_rope_theta": 5000.0,
        "local_rope_theta": 100.0,
        "pad_token_id": 0,
        "bos_token_id": 2,
        "eos_token_id": 3,
        "cls_token_id": 2,
        "sep_token_id": 3,
    },
    "nomic_bert": {
        **_SIZES,
        "architectures": ["NomicBertModel"],
        "model_type": "nomic_bert",
        "intermediate_size": 48,
        "hidden_act": "silu",
        "max_position_embeddings": 96,
        "type_vocab_size": 2,
        "layer_norm_eps": 1e-12,
        "rope_parameters": {"rope_type": "default", "rope_theta": 300.0},
        "pad_token_id": 0,
    },
    "gemma3_text": {
        **_SIZES,
        "architectures": ["Gemma3TextModel"],
        "model_type": "gemma3_text",
        "num_hidden_layers": 3,
        "num_key_value_heads": 2,
        "head_dim": 12,
        "intermediate_size": 48,
        "hidden_activation": "gelu_pytorch_tanh",
        "max_position_embeddings": 96,
        "query_pre_attn_scalar": 20,
        "sliding_window": 9,
        "sliding_window_pattern": 3,
        "use_bidirectional_attention": True,
        "rope_theta": 5000.0,
        "rope_local_base_freq": 100.0,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "bos_token_id": 2,
    },
}

# The keys of files that were written for code of their own; None takes a newer key away.
OLDER_NOMIC: Json = {
    **dict.fromkeys(CONFIGS["nomic_bert"].keys() - {"model_type", "type_vocab_size"}),
    "activation_function": "swiglu",
    "architectures": ["NomicBertModel"],
    "auto_map": {
        "AutoConfig": "nomic-ai/nomic-bert-2048--configuration_hf_nomic_bert.NomicBertConfig",
        "AutoModel": "nomic-ai/nomic-bert-2048--modeling_hf_nomic_bert.NomicBertModel",
    },
    "causal": False,
    "fused_bias_fc": True,
    "layer_norm_epsilon": 1e-12,
    "max_trained_positions": 96,
    "mlp_fc1_bias": False,
    "mlp_fc2_bias": False,
    "n_embd": WIDTH,
    "n_head": 4,
    "n_inner": 48,
    "n_layer": 2,
    "n_positions": 384,
    "parallel_block": False,
    "prenorm": False,
    "qkv_proj_bias": False,
    "rotary_emb_base": 300.0,
    "rotary_emb_fraction": 1.0,
    "rotary_emb_interleaved": False,
    "rotary_emb_scale_base": None,
    "rotary_scaling_factor": None,
    "use_rms_norm": False,
}
