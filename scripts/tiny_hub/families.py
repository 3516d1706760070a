"""The tiny models, by family."""

from dataclasses import replace

from scripts.tiny_hub.parts import PIXELS, SQUARE, Tiny, glm, ids, llava, mrope, of, omni, qwen, qwen_tower, text, tower
from videollm.models.language import debug_tokenizer

FAMILIES: dict[str, Tiny] = {
    "qwen2_vl": qwen(
        "Qwen2VL", {"depth": 2, "embed_dim": 32, "hidden_size": 32, "num_heads": 4, "mlp_ratio": 2}, mrope(2, 1, 1)
    ),
    "qwen2_5_vl": qwen("Qwen2_5_VL", qwen_tower(fullatt_block_indexes=[1], window_size=56), mrope(2, 1, 1)),
    "qwen3_vl": replace(
        qwen(
            "Qwen3VL",
            qwen_tower(deepstack_visual_indexes=[0], num_position_embeddings=16),
            mrope(2, 1, 1, mrope_interleaved=True),
            video="Qwen3VL",
            patch=16,
            head_dim=8,
        ),
        knows_tools=True,
    ),
    "qwen3_5": qwen(
        "Qwen3_5",
        qwen_tower(num_position_embeddings=16),
        mrope(2, 1, 1, mrope_interleaved=True, partial_rotary_factor=1.0),
        video="Qwen3VL",
        processor="Qwen3VL",
        patch=16,
        head_dim=8,
        layer_types=["linear_attention", "full_attention"],
        linear_key_head_dim=8,
        linear_value_head_dim=8,
        linear_num_key_heads=2,
        linear_num_value_heads=4,
    ),
    "llava_onevision": llava(
        "LlavaOnevision",
        lambda t: of(
            "LlavaOnevisionProcessor",
            image_processor=of("LlavaOnevisionImageProcessor", size=SQUARE, image_grid_pinpoints=[[56, 56], [56, 112]]),
            video_processor=of("LlavaOnevisionVideoProcessor", size=SQUARE),
            tokenizer=t,
            num_image_tokens=16,
            vision_feature_select_strategy="full",
        ),
        vision=tower(model_type="siglip_vision_model"),
        image_grid_pinpoints=[[56, 56], [56, 112]],
    ),
    "llava_next_video": llava(
        "LlavaNextVideo",
        lambda t: of(
            "LlavaNextVideoProcessor",
            image_processor=of(
                "LlavaNextImageProcessor",
                size={"shortest_edge": 56},
                crop_size=SQUARE,
                image_grid_pinpoints=[[56, 112]],
            ),
            video_processor=of("LlavaNextVideoVideoProcessor", size={"shortest_edge": 56}, crop_size=SQUARE),
            tokenizer=t,
            patch_size=14,
            vision_feature_select_strategy="default",
            num_additional_image_tokens=1,
        ),
        image_grid_pinpoints=[[56, 112]],
    ),
    "video_llava": llava(
        "VideoLlava",
        lambda t: of(
            "VideoLlavaProcessor",
            image_processor=of("VideoLlavaImageProcessor", size={"shortest_edge": 56}, crop_size=SQUARE),
            video_processor=of("VideoLlavaVideoProcessor", size={"shortest_edge": 56}, crop_size=SQUARE),
            tokenizer=t,
            patch_size=14,
            vision_feature_select_strategy="default",
            num_additional_image_tokens=1,
        ),
    ),
    "internvl": Tiny(
        named={
            "start_image_token": "<img>",
            "end_image_token": "</img>",
            "context_image_token": "<IMG_CONTEXT>",
            "video_token": "<video>",
        },
        video="<video>\\n",
        image="<IMG_CONTEXT>\\n",
        config=lambda t: of(
            "InternVLConfig",
            text_config=text(t, model_type="qwen2"),
            vision_config=tower(image_size=[56, 56], patch_size=[14, 14]),
            image_seq_length=4,
            **ids(t, image_token_id="<IMG_CONTEXT>"),
        ),
        processor=lambda t: of(
            "InternVLProcessor",
            image_processor=of("GotOcr2ImageProcessor", size=SQUARE),
            video_processor=of("InternVLVideoProcessor", size=SQUARE),
            tokenizer=t,
            image_seq_length=4,
        ),
    ),
    "smolvlm": Tiny(
        named={
            "image_token": "<image>",
            "fake_image_token": "<fake_token_around_image>",
            "global_image_token": "<global-img>",
            "end_of_utterance_token": "<end_of_utterance>",
            "video_token": "<video>",
        },
        video="<video>",
        image="<image>",
        config=lambda t: of(
            "SmolVLMConfig",
            text_config=text(t, model_type="llama"),
            vision_config=tower(),
            scale_factor=2,
            **ids(t, image_token_id="<image>"),
        ),
        processor=lambda t: of(
            "SmolVLMProcessor",
            image_processor=of("SmolVLMImageProcessor", size={"longest_edge": 56}, max_image_size={"longest_edge": 56}),
            video_processor=of("SmolVLMVideoProcessor", size={"longest_edge": 56}, max_image_size={"longest_edge": 56}),
            tokenizer=t,
            image_seq_len=4,
        ),
    ),
    "video_llama_3": Tiny(
        named={"image_token": "<|image_pad|>", "video_token": "<|video_pad|>"},
        video="<|video_pad|>\\n",
        image="<|image_pad|>\\n",
        config=lambda t: of(
            "VideoLlama3Config",
            text_config=text(t, model_type="qwen2"),
            vision_config={k: v for k, v in tower().items() if k != "image_size"},
            **ids(t, image_token_id="<|image_pad|>", video_token_id="<|video_pad|>"),
        ),
        processor=lambda t: of(
            "VideoLlama3Processor",
            image_processor=of("VideoLlama3ImageProcessor", size=PIXELS),
            video_processor=of("VideoLlama3VideoProcessor", size=PIXELS),
            tokenizer=t,
        ),
    ),
    "perception_lm": Tiny(
        named={"image_token": "<|image|>", "video_token": "<|video|>"},
        video="<|video|>",
        image="<|image|>",
        config=lambda t: of(
            "PerceptionLMConfig",
            text_config=text(t, model_type="llama"),
            vision_config={
                "model_type": "timm_wrapper",
                "architecture": "vit_pe_core_large_patch14_336",
                "num_classes": 32,
                "model_args": {
                    "embed_dim": 32,
                    "depth": 2,
                    "num_heads": 4,
                    "img_size": [56, 56],
                    "patch_size": [14, 14],
                    "global_pool": "",
                    "use_post_transformer_norm": False,
                    "init_values": 0.1,
                    "ref_feat_shape": [4, 4],
                },
            },
            projector_pooling_ratio=2,
            **ids(t, image_token_id="<|image|>", video_token_id="<|video|>"),
        ),
        processor=lambda t: of(
            "PerceptionLMProcessor",
            image_processor=of("PerceptionLMImageProcessor", size=SQUARE, tile_size=56, vision_input_type="vanilla"),
            video_processor=of("PerceptionLMVideoProcessor", size=SQUARE),
            tokenizer=t,
            patch_size=14,
            pooling_ratio=2,
        ),
    ),
}

FAMILIES["gemma4"] = Tiny(
    named={
        "image_token": "<|image|>",
        "boi_token": "<|image>",
        "eoi_token": "<image|>",
        "audio_token": "<|audio|>",
        "boa_token": "<|audio>",
        "eoa_token": "<audio|>",
    },
    tokens=("<|video|>",),
    video="<|video|>",
    image="<|image|>",
    config=lambda t: of(
        "Gemma4Config",
        text_config=text(
            t,
            head_dim=8,
            global_head_dim=8,
            sliding_window=16,
            layer_types=["sliding_attention", "full_attention"],
            vocab_size_per_layer_input=len(t),
            hidden_size_per_layer_input=8,
            num_global_key_value_heads=2,
        ),
        vision_config={**tower(patch_size=16), "num_key_value_heads": 4, "head_dim": 8, "position_embedding_size": 64},
        audio_config=None,
        **ids(
            t, image_token_id="<|image|>", video_token_id="<|video|>", boi_token_id="<|image>", eoi_token_id="<image|>"
        ),
        **ids(t, audio_token_id="<|audio|>", boa_token_id="<|audio>", eoa_token_index="<audio|>"),
    ),
    processor=lambda t: of(
        "Gemma4Processor",
        feature_extractor=of("Gemma4AudioFeatureExtractor"),
        image_processor=of("Gemma4ImageProcessor", max_soft_tokens=70, patch_size=16, pooling_kernel_size=3),
        video_processor=of("Gemma4VideoProcessor", max_soft_tokens=70, patch_size=16, pooling_kernel_size=3),
        tokenizer=t,
        image_seq_length=70,
    ),
)
FAMILIES["minicpmv4_6"] = Tiny(
    named={
        "image_token": "<|image_pad|>",
        "video_token": "<|video_pad|>",
        "image_start_token": "<image>",
        "image_end_token": "</image>",
        "slice_start_token": "<slice>",
        "slice_end_token": "</slice>",
        "image_id_start_token": "<image_id>",
        "image_id_end_token": "</image_id>",
    },
    video="<|video_pad|>\\n",
    image="<|image_pad|>\\n",
    config=lambda t: of(
        "MiniCPMV4_6Config",
        text_config=text(t, model_type="qwen2"),
        vision_config=tower(insert_layer_id=0),
        insert_layer_id=0,
        image_size=56,
        **ids(t, image_token_id="<|image_pad|>", video_token_id="<|video_pad|>"),
    ),
    processor=lambda t: of(
        "MiniCPMV4_6Processor",
        image_processor=of("MiniCPMV4_6ImageProcessor", scale_resolution=112, max_slice_nums=1),
        video_processor=of("MiniCPMV4_6VideoProcessor", scale_resolution=112, max_slice_nums=1),
        tokenizer=t,
    ),
)
IM = (
    "<im_patch>",
    "<im_col>",
    "<im_start>",
    "<low_res_im_start>",
    "<frame_start>",
    "<im_end>",
    "<frame_end>",
    "<im_low>",
)
FAMILIES["instructblipvideo"] = Tiny(
    named={},
    tokens=("<video>",),
    video="<video>",
    image="<video>",
    config=lambda t: of(
        "InstructBlipVideoConfig",
        vision_config=tower(initializer_range=0.02),
        # Weights of this size let the question show in the answer.
        qformer_config=text(t, max_position_embeddings=512, encoder_hidden_size=32, initializer_range=0.2),
        text_config=text(t, model_type="llama"),
        num_query_tokens=4,
        video_token_index=t.convert_tokens_to_ids("<video>"),
    ),
    processor=lambda t: of(
        "InstructBlipVideoProcessor",
        video_processor=of("InstructBlipVideoVideoProcessor", size=SQUARE),
        tokenizer=t,
        qformer_tokenizer=debug_tokenizer(),
        num_query_tokens=4,
    ),
)
FAMILIES["molmo2"] = Tiny(
    named={"image_token": "<|image|>", "video_token": "<|video|>"},
    tokens=(
        *("<im_patch>", "<im_col>", "<im_start>", "<low_res_im_start>"),
        *("<frame_start>", "<im_end>", "<frame_end>", "<im_low>"),
    ),
    video="<|video|>",
    image="<|image|>",
    config=lambda t: of(
        "Molmo2Config",
        text_config=text(t, head_dim=8, additional_vocab_size=8),
        vision_config={
            **tower(),
            "image_size": [56, 56],
            "num_key_value_heads": 4,
            "head_dim": 8,
            "num_position_embeddings": 16,
        },
        adapter_config={
            "vision_feature_layer": [-1, -2],
            "hidden_size": 32,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "head_dim": 8,
            "intermediate_size": 64,
            "text_hidden_size": 32,
        },
        **ids(
            t,
            image_start_token_id="<im_start>",
            low_res_image_start_token_id="<low_res_im_start>",
            image_end_token_id="<im_end>",
            image_patch_id="<im_patch>",
            frame_start_token_id="<frame_start>",
            frame_end_token_id="<frame_end>",
        ),
    ),
    processor=lambda t: of(
        "Molmo2Processor",
        image_processor=of("Molmo2ImageProcessor", size=SQUARE, max_crops=1, overlap_margins=[0, 0]),
        video_processor=of("Molmo2VideoProcessor", size=SQUARE),
        tokenizer=t,
    ),
)
FAMILIES["qwen2_5_omni"] = omni(
    "Qwen2_5Omni",
    qwen_tower(fullatt_block_indexes=[1], window_size=56),
    {"d_model": 16, "output_dim": 32},
    mrope(2, 1, 1),
    "Qwen2VL",
)
FAMILIES["qwen3_omni_moe"] = omni(
    "Qwen3OmniMoe",
    qwen_tower(deepstack_visual_indexes=[0], num_position_embeddings=16),
    {"d_model": 16, "output_dim": 32, "downsample_hidden_size": 8},
    mrope(2, 1, 1, mrope_interleaved=True),
    "Qwen2VL",
    patch=16,
    head_dim=8,
    num_experts=4,
    num_experts_per_tok=2,
    moe_intermediate_size=16,
)
FAMILIES |= {"glm4v": glm("Glm4v"), "glm46v": glm("Glm46V")}
