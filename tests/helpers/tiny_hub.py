"""Tiny models of the architectures that the Hub backends of the tools load: random weights, saved as folders."""

from __future__ import annotations

import string
from collections.abc import Callable
from pathlib import Path
from typing import Any


SIDE = 64
"""Side of the pictures that the models see, in pixels."""


def _seeded(make: Callable[[], Any]) -> Any:
    """The same random weights at every call."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make().float().eval()


def _clip_tokenizer(length: int) -> Any:
    from transformers import CLIPTokenizer

    signs = string.ascii_lowercase + string.digits + ".,!"
    tokens = [*signs, *(f"{sign}</w>" for sign in signs), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=length)


def _clip_text(tokenizer: Any, length: int) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": length,
        "projection_dim": 32,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }


def make_owlv2(folder: Path) -> Path:
    """OWLv2, as in `google/owlv2-base-patch16-ensemble`."""
    import torch
    from transformers import Owlv2Config, Owlv2ForObjectDetection, Owlv2ImageProcessorPil, Owlv2Processor

    tokenizer = _clip_tokenizer(16)
    vision = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = Owlv2Config(
        text_config=_clip_text(tokenizer, 16),
        vision_config={**vision, "image_size": SIDE, "patch_size": 16},
        projection_dim=32,
    )
    model = _seeded(lambda: Owlv2ForObjectDetection(config))
    with torch.no_grad():
        # Boxes are the cells of a grid plus what this layer says; large numbers push all of them to the edges.
        model.box_head.dense2.weight.mul_(0.01)
        model.box_head.dense2.bias.zero_()
    model.save_pretrained(folder)
    pictures = Owlv2ImageProcessorPil(size={"height": SIDE, "width": SIDE})
    Owlv2Processor(image_processor=pictures, tokenizer=tokenizer).save_pretrained(folder)
    return folder


def make_grounding_dino(folder: Path) -> Path:
    """Grounding DINO, as in `IDEA-Research/grounding-dino-base`."""
    from transformers import (
        BertConfig,
        BertTokenizer,
        GroundingDinoConfig,
        GroundingDinoForObjectDetection,
        GroundingDinoImageProcessorPil,
        GroundingDinoProcessor,
        SwinConfig,
    )

    tokens = "[PAD] [UNK] [CLS] [SEP] [MASK] . a red fruit human face cat dog".split()
    tokenizer = BertTokenizer(vocab={token: number for number, token in enumerate(tokens)})
    transformer = {"num_attention_heads": 4, "intermediate_size": 64, "num_hidden_layers": 2}
    config = GroundingDinoConfig(
        backbone_config=SwinConfig(
            image_size=SIDE,
            embed_dim=16,
            depths=[1, 1, 1],
            num_heads=[2, 2, 2],
            window_size=4,
            out_features=["stage2", "stage3"],
        ),
        text_config=BertConfig(vocab_size=len(tokens), hidden_size=32, max_position_embeddings=64, **transformer),
        num_queries=12,
        d_model=32,
        encoder_layers=1,
        decoder_layers=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        num_feature_levels=3,
        max_text_len=64,
    )
    _seeded(lambda: GroundingDinoForObjectDetection(config)).save_pretrained(folder)
    pictures = GroundingDinoImageProcessorPil(size={"height": SIDE, "width": SIDE})
    GroundingDinoProcessor(image_processor=pictures, tokenizer=tokenizer).save_pretrained(folder)
    return folder


def _save_picture_settings(folder: Path, side: int, mean: list[float], std: list[float]) -> None:
    """The part of `preprocessor_config.json` that says what pictures become; the own class needs torchvision."""
    from transformers import ViTImageProcessorPil

    size = {"height": side, "width": side}
    ViTImageProcessorPil(size=size, image_mean=mean, image_std=std).save_pretrained(folder)


def make_sam2(folder: Path) -> Path:
    """SAM 2, as in `facebook/sam2.1-hiera-large`. Its masks are stable and it is sure of them, whatever it sees."""
    import torch
    from transformers import Sam2Config, Sam2HieraDetConfig, Sam2Model, Sam2VisionConfig

    backbone = Sam2HieraDetConfig(
        hidden_size=8,
        num_attention_heads=1,
        image_size=[SIDE, SIDE],
        blocks_per_stage=[1, 1, 2, 1],
        embed_dim_per_stage=[8, 16, 32, 64],
        num_attention_heads_per_stage=[1, 1, 2, 2],
        window_size_per_stage=[8, 4, 8, 4],
        global_attention_blocks=[3],
        window_positional_embedding_background_size=[2, 2],
        initializer_range=0.2,
    )
    vision = Sam2VisionConfig(
        backbone_config=backbone,
        backbone_channel_list=[64, 32, 16, 8],
        backbone_feature_sizes=[[16, 16], [8, 8], [4, 4]],
        fpn_hidden_size=16,
        initializer_range=0.2,
    )
    decoder = {"hidden_size": 16, "mlp_dim": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = Sam2Config(
        vision_config=vision,
        prompt_encoder_config={"hidden_size": 16, "image_size": SIDE, "patch_size": 16},
        mask_decoder_config={**decoder, "iou_head_hidden_dim": 16},
        initializer_range=0.2,
    )
    model = _seeded(lambda: Sam2Model(config))
    with torch.no_grad():
        # Predicted overlaps go through a sigmoid; mask logits are products with the outputs of these small networks.
        model.mask_decoder.iou_prediction_head.proj_out.bias.fill_(4.0)
        for network in model.mask_decoder.output_hypernetworks_mlps:
            network.proj_out.weight.mul_(5000.0)
            network.proj_out.bias.mul_(5000.0)
    model.save_pretrained(folder)
    _save_picture_settings(folder, SIDE, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    return folder


def make_sam3(folder: Path) -> Path:
    """SAM 3, as in `facebook/sam3`. It is sure that what it is asked for is there."""
    import torch
    from transformers import Sam3Config, Sam3Model

    tokenizer = _clip_tokenizer(32)
    side = 112
    backbone = {
        "model_type": "sam3_vit_model",
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": side,
        "pretrain_image_size": side,
        "patch_size": 14,
        "window_size": 4,
        "global_attn_indexes": [1],
    }
    transformer = {"hidden_size": 32, "num_layers": 1, "num_attention_heads": 4, "intermediate_size": 64}
    config = Sam3Config(
        vision_config={
            "backbone_config": backbone,
            "fpn_hidden_size": 32,
            "backbone_feature_sizes": [[32, 32], [16, 16], [8, 8]],
        },
        text_config={"model_type": "clip_text_model", **_clip_text(tokenizer, 32)},
        geometry_encoder_config=transformer,
        detr_encoder_config=transformer,
        detr_decoder_config={**transformer, "num_queries": 12},
        mask_decoder_config={"hidden_size": 32, "num_upsampling_stages": 3, "num_attention_heads": 4},
        initializer_range=0.2,
    )
    model = _seeded(lambda: Sam3Model(config))
    with torch.no_grad():
        model.detr_decoder.presence_head.layer3.bias.fill_(8.0)
    model.save_pretrained(folder)
    _save_picture_settings(folder, side, [0.5, 0.5, 0.5], [0.5, 0.5, 0.5])
    tokenizer.save_pretrained(folder)
    return folder


def make_stable_diffusion(folder: Path, edits: bool = False) -> Path:
    """Stable Diffusion, as in `stable-diffusion-v1-5`; with `edits` InstructPix2Pix, as in `instruct-pix2pix`."""
    from diffusers import (
        AutoencoderKL,
        DDIMScheduler,
        StableDiffusionInstructPix2PixPipeline,
        StableDiffusionPipeline,
        UNet2DConditionModel,
    )
    from transformers import CLIPTextConfig, CLIPTextModel

    tokenizer = _clip_tokenizer(16)
    unet = _seeded(
        lambda: UNet2DConditionModel(
            sample_size=8,
            # An edit sees the latents of the given picture beside its own.
            in_channels=8 if edits else 4,
            out_channels=4,
            block_out_channels=(16, 32),
            layers_per_block=1,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=32,
            attention_head_dim=8,
            norm_num_groups=8,
        )
    )
    vae = _seeded(
        lambda: AutoencoderKL(
            block_out_channels=(8, 8, 8, 8),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            latent_channels=4,
            norm_num_groups=4,
            sample_size=SIDE,
        )
    )
    text = _seeded(lambda: CLIPTextModel(CLIPTextConfig(**_clip_text(tokenizer, 16))))
    pipeline_class = StableDiffusionInstructPix2PixPipeline if edits else StableDiffusionPipeline
    pipeline = pipeline_class(
        vae=vae,
        text_encoder=text,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=DDIMScheduler(steps_offset=1, clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder)
    return folder
