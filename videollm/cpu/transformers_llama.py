"""Which of transformers' models `LlamaRunner` can run, and their weights as it reads them."""

from typing import Any

from torch import nn
from transformers import LlamaForCausalLM, Qwen2ForCausalLM

from videollm.cpu.linear import stack_linears
from videollm.cpu.llama_weights import LlamaShape, LlamaWeights

# The frequencies of these kinds do not depend on how long a conversation is. Those of "dynamic" and "longrope" do. All
# conversations share one set of frequencies in the runner, so that a long one would change its neighbours' keys.
FIXED_ROPE = ("default", "linear", "llama3", "yarn")


def supports(language_model: nn.Module) -> bool:
    """Returns whether `LlamaRunner` computes what the model computes.

    It does for a Llama or Qwen2 on the CPU that is gated by SiLU and has full attention, fixed rotary frequencies and
    plain weights (neither quantised nor with an adapter or rows of signal tokens beside them).
    """
    if type(language_model) not in (LlamaForCausalLM, Qwen2ForCausalLM):
        return False
    config: Any = language_model.config
    on_cpu = all(p.device.type == "cpu" for p in language_model.parameters())
    plain = all(type(m) is nn.Linear for m in language_model.modules() if isinstance(m, nn.Linear))
    plain = plain and "forward" not in vars(language_model.lm_head)  # rows of signal tokens replace its forward
    full = set(getattr(config, "layer_types", None) or ["full_attention"]) == {"full_attention"}
    fixed = config.rope_parameters.get("rope_type", "default") in FIXED_ROPE
    return on_cpu and plain and full and fixed and config.hidden_act == "silu"


def weights_of(language_model: Any) -> LlamaWeights:
    """Returns the weights of a supported model.

    Those of q, k, v and those of gate, up are stacked, so that each group is one product. The layers of the model
    become views of the same memory and keep working. If its weights are moved or replaced later, they are no longer
    those returned here.
    """
    model, config = language_model.model, language_model.config
    tensors = {
        "words": model.embed_tokens.weight.detach(),
        "norm": model.norm.weight.detach(),
        "frequencies": model.rotary_emb.inv_freq,
    }
    if language_model.lm_head.weight is not model.embed_tokens.weight:
        tensors["head"] = language_model.lm_head.weight.detach()
    if language_model.lm_head.bias is not None:
        tensors["head.bias"] = language_model.lm_head.bias.detach()
    for number, layer in enumerate(model.layers):
        attention, mlp = layer.self_attn, layer.mlp
        tensors[f"{number}.before_attention"] = layer.input_layernorm.weight.detach()
        tensors[f"{number}.before_mlp"] = layer.post_attention_layernorm.weight.detach()
        groups = {
            "qkv": [attention.q_proj, attention.k_proj, attention.v_proj],
            "out": [attention.o_proj],
            "gate_up": [mlp.gate_proj, mlp.up_proj],
            "down": [mlp.down_proj],
        }
        for name, linears in groups.items():
            tensors[f"{number}.{name}"], bias = stack_linears(linears)
            if bias is not None:
                tensors[f"{number}.{name}.bias"] = bias.detach()
    shape = LlamaShape(
        layers=len(model.layers),
        heads=config.num_attention_heads,
        kv_heads=config.num_key_value_heads,
        width=model.layers[0].self_attn.head_dim,
        scale=model.layers[0].self_attn.scaling,
        epsilon=model.norm.variance_epsilon,
        rotary_scale=model.rotary_emb.attention_scaling,
    )
    return LlamaWeights(shape, tensors)
