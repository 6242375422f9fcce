"""The vision backbones of keras-hub, made small: the one place with their arguments."""

import inspect

import keras_hub
from keras_hub import models

SIZE = 64
_IMAGE = (SIZE, SIZE, 3)


def _transformer(**arguments):
    return {"num_layers": 2, "num_heads": 4, "hidden_dim": 32} | arguments


def _resnet(**arguments):
    return {
        "input_conv_filters": [64],
        "input_conv_kernel_sizes": [7],
        "stackwise_num_filters": [64, 32, 32, 64],
        "stackwise_num_blocks": [1, 1, 1, 1],
        "stackwise_num_strides": [1, 2, 2, 2],
        "block_type": "basic_block",
    } | arguments


def _encoder(name="ResNetBackbone", **arguments):
    """A backbone inside another one."""
    return lambda: build(name, **arguments)


#: {name of the class: its arguments}; a function without arguments makes one.
ARGUMENTS = {
    "BASNetBackbone": {
        "image_encoder": _encoder(
            stackwise_num_filters=[64, 128, 256, 512],
            image_shape=(None, None, 3),
        ),
        "num_classes": 1,
        "image_shape": _IMAGE,
        "projection_filters": 64,
    },
    "CSPNetBackbone": {
        "stem_filters": 16,
        "stem_kernel_size": 3,
        "stem_strides": 1,
        "stackwise_depth": [1, 2, 1],
        "stackwise_strides": [1, 2, 2],
        "stackwise_num_filters": [16, 32, 64],
        "block_type": "dark_block",
        "stage_type": "cs3",
        "bottle_ratio": [0.5] * 3,
        "block_ratio": [1.0] * 3,
        "expand_ratio": [2.0] * 3,
        "down_growth": True,
        "stem_padding": "same",
        "image_shape": _IMAGE,
    },
    "DINOV2Backbone": _transformer(
        patch_size=8, intermediate_dim=64, position_embedding_shape=_IMAGE, image_shape=_IMAGE
    ),
    "DINOV3Backbone": _transformer(patch_size=8, intermediate_dim=64, image_shape=_IMAGE),
    "DeepLabV3Backbone": {
        "image_encoder": _encoder(),
        "spatial_pyramid_pooling_key": "P5",
        "upsampling_size": 8,
        "dilation_rates": [2, 3],
        "low_level_feature_key": "P2",
        "projection_filters": 16,
        "image_shape": _IMAGE,
    },
    "DeiTBackbone": _transformer(patch_size=8, intermediate_dim=64, image_shape=_IMAGE),
    "DenseNetBackbone": {
        "stackwise_num_repeats": [2, 2, 2],
        "growth_rate": 16,
        "image_shape": _IMAGE,
    },
    "DepthAnythingBackbone": {
        "image_encoder": _encoder("DINOV2Backbone", num_layers=4),
        "reassemble_factors": [4, 2, 1, 0.5],
        "neck_hidden_dims": [16, 16, 32, 32],
        "fusion_hidden_dim": 16,
        "head_hidden_dim": 16,
        "head_in_index": -1,
        "feature_keys": ["stage1", "stage2", "stage3", "stage4"],
    },
    "EfficientNetBackbone": {
        "stackwise_width_coefficients": [1.0] * 4,
        "stackwise_depth_coefficients": [1.0] * 4,
        "stackwise_kernel_sizes": [3, 3, 5, 3],
        "stackwise_num_repeats": [1, 2, 1, 1],
        "stackwise_input_filters": [16, 16, 24, 32],
        "stackwise_output_filters": [16, 24, 32, 32],
        "stackwise_expansion_ratios": [1, 4, 4, 4],
        "stackwise_squeeze_and_excite_ratios": [0.25, 0.25, 0.25, 0.0],
        "stackwise_strides": [1, 2, 2, 1],
        "stackwise_block_types": ["v1", "unfused", "v1", "fused"],
        "stackwise_force_input_filters": [0] * 4,
        "stackwise_nores_option": [False] * 4,
        "input_shape": _IMAGE,
    },
    "HGNetV2Backbone": {
        "depths": [1, 1, 2],
        "embedding_size": 16,
        "hidden_sizes": [32, 64, 64],
        "stem_channels": [3, 16, 16],
        "hidden_act": "relu",
        "use_learnable_affine_block": True,
        "stackwise_stage_filters": [
            (16, 16, 32, 1, 2, 3),
            (32, 16, 64, 1, 2, 3),
            (64, 16, 64, 2, 2, 5),
        ],
        "apply_downsample": [False, True, True],
        "use_lightweight_conv_block": [False, True, True],
        "image_shape": _IMAGE,
    },
    "MiTBackbone": {
        "num_layers": 4,
        "hidden_dims": [16, 32, 48, 64],
        "layerwise_depths": [1, 1, 1, 1],
        "layerwise_num_heads": [1, 2, 2, 4],
        "layerwise_sr_ratios": [8, 4, 2, 1],
        "layerwise_patch_sizes": [7, 3, 3, 3],
        "layerwise_strides": [4, 2, 2, 2],
        "max_drop_path_rate": 0.0,
        "image_shape": _IMAGE,
    },
    "MobileNetBackbone": {
        "stackwise_expansion": [[32, 48], [64, 96]],
        "stackwise_num_blocks": [2, 2],
        "stackwise_num_filters": [[16, 16], [24, 24]],
        "stackwise_kernel_size": [[3, 3], [5, 5]],
        "stackwise_num_strides": [[2, 1], [2, 1]],
        "stackwise_se_ratio": [[None, None], [0.25, 0.25]],
        "stackwise_activation": [["relu", "relu"], ["hard_swish", "hard_swish"]],
        "stackwise_padding": [[1, 1], [2, 2]],
        "output_num_filters": 64,
        "depthwise_filters": 16,
        "depthwise_stride": 1,
        "depthwise_residual": True,
        "last_layer_filter": 64,
        "squeeze_and_excite": 0.5,
        "input_activation": "hard_swish",
        "output_activation": "hard_swish",
        "input_num_filters": 16,
        "image_shape": _IMAGE,
    },
    "MobileNetV5Backbone": {
        "stackwise_block_types": [["er"], ["uir", "uir"]],
        "stackwise_num_blocks": [1, 2],
        "stackwise_num_filters": [[24], [48, 48]],
        "stackwise_strides": [[2], [2, 1]],
        "stackwise_act_layers": [["gelu"], ["gelu", "gelu"]],
        "stackwise_exp_ratios": [[4.0], [6.0, 6.0]],
        "stackwise_se_ratios": [[0.0], [0.0, 0.0]],
        "stackwise_dw_kernel_sizes": [[0], [5, 5]],
        "stackwise_dw_start_kernel_sizes": [[0], [0, 0]],
        "stackwise_dw_end_kernel_sizes": [[0], [0, 0]],
        "stackwise_exp_kernel_sizes": [[3], [0, 0]],
        "stackwise_pw_kernel_sizes": [[1], [0, 0]],
        "stackwise_num_heads": [[0], [0, 0]],
        "stackwise_key_dims": [[0], [0, 0]],
        "stackwise_value_dims": [[0], [0, 0]],
        "stackwise_kv_strides": [[0], [0, 0]],
        "stackwise_use_cpe": [[False], [False, False]],
        "use_msfa": False,
        "image_shape": _IMAGE,
    },
    "ResNetBackbone": _resnet(image_shape=_IMAGE),
    "RetinaNetBackbone": {
        "image_encoder": _encoder(),
        "min_level": 3,
        "max_level": 6,
        "use_p5": False,
        "use_fpn_batch_norm": True,
        "image_shape": _IMAGE,
    },
    "SegFormerBackbone": {
        "image_encoder": _encoder("MiTBackbone", hidden_dims=[8, 16, 32, 64]),
        "projection_filters": 24,
    },
    "SwinTransformerBackbone": {
        "embed_dim": 16,
        "depths": (1, 2),
        "num_heads": (2, 4),
        "window_size": 4,
        "image_shape": _IMAGE,
    },
    "VGGBackbone": {
        "stackwise_num_repeats": [1, 1, 2],
        "stackwise_num_filters": [16, 32, 64],
        "image_shape": _IMAGE,
    },
    "ViTBackbone": _transformer(patch_size=8, mlp_dim=64, image_shape=_IMAGE),
    "ViTDetBackbone": {
        "hidden_size": 32,
        "num_layers": 2,
        "intermediate_dim": 64,
        "num_heads": 4,
        "global_attention_layer_indices": [1],
        "image_shape": _IMAGE,
        "patch_size": 8,
        "num_output_channels": 16,
        "window_size": 4,
    },
    "XceptionBackbone": {
        "stackwise_conv_filters": [[16, 32], [32, 64], [64, 64]],
        "stackwise_pooling": [True, True, False],
        "image_shape": _IMAGE,
    },
}

#: {name of the class: why it is not compared}
LEFT_OUT = {
    "DFineBackbone": "chooses queries by rank, which a rounding error changes",
    "SAMBackbone": "takes points and boxes besides images",
}

#: Arguments by which a constructor takes images, and by which it takes something else, too.
_OF_IMAGES = {"image_encoder", "image_shape", "input_shape", "stackwise_num_repeats"}
_OF_OTHERS = {"vocabulary_size", "text_shape", "text_encoder", "vae"}


def vision_backbones():
    """Names of the classes in `keras_hub.models` that take images alone, by their arguments."""
    found = []
    for name, cls in vars(models).items():
        if name.endswith("Backbone") and inspect.isclass(cls):
            arguments = set(inspect.signature(cls.__init__).parameters)
            if arguments & _OF_IMAGES and not arguments & _OF_OTHERS:
                found.append(name)
    return sorted(found)


def build(name, **others):
    """The small backbone of a class of `ARGUMENTS`, with other arguments than there if given."""
    arguments = {
        key: value() if callable(value) else value
        for key, value in (ARGUMENTS[name] | others).items()
    }
    return getattr(keras_hub.models, name)(**arguments)
