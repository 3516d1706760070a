"""Video-LLaMA's preparation of pixels, which has no weights, under the official names of its inputs and outputs."""

from collections.abc import Mapping

import torch

from videollm.models.published.pixels import eval_video, square_image, train_video
from videollm.models.published.system import Config, PublishedSystem, Tensors, official_compat, setting


class VideoLlamaPixels(PublishedSystem):
    """config: {"box_ijhw", "image_size_train", "image_size_image_eval"}: the drawn crop and the sizes."""

    def __init__(self, config: Config):
        super().__init__()
        self.config = config

    def forward(self, inputs: Mapping[str, torch.Tensor]) -> Tensors:
        outputs: Tensors = {}
        if "train/clip_cthw" in inputs:
            box, size = setting(self.config, "box_ijhw"), setting(self.config, "image_size_train")
            outputs["train/video"] = train_video(
                inputs["train/clip_cthw"], box, size, official_compat=official_compat(self.config)
            )
        if "eval/clip_cthw" in inputs:
            outputs["eval/video"] = eval_video(inputs["eval/clip_cthw"])
        if "image_eval/hwc_uint8" in inputs:
            size = setting(self.config, "image_size_image_eval")
            outputs["image_eval/chw"] = square_image(inputs["image_eval/hwc_uint8"], size)
        return outputs
