"""Settings that make encoders and decoders fast enough for a test, by option; others run as their yaml stands."""

SMALL: dict[str, dict[str, dict[str, object]]] = {
    "encoder": {
        "timm": {"name": "test_resnet"},
        "copernicus_fm": {"embed_dim": 16, "depth": 4, "num_heads": 2},
        "channel_vit": {"token": 8, "width": 24, "depth": 4, "num_heads": 3},
        "croma": {"embed_dim": 16, "depth": 4},
        "dofa": {"embed_dim": 16, "depth": 4, "num_heads": 2},
        "inflated": {"of.name": "test_resnet", "of.indices": [0, 1, 2, 3]},
        "monai_resnet": {"depth": 10, "width": 8},
        "monai_segresnet": {"init_filters": 8, "blocks": [1, 1, 1]},
        "monai_swin_vit": {"feature_size": 12, "depths": [1, 1, 1, 1], "num_heads": [2, 2, 2, 2], "window_size": 4},
        "monai_vit": {"token": 8, "hidden_size": 24, "mlp_dim": 24, "num_layers": 4, "num_heads": 3},
        "panopticon": {"embed_dim": 16, "depth": 4, "num_heads": 2, "attn_dim": 16},
        "scalemae": {"embed_dim": 16, "depth": 4, "num_heads": 2},
        "sliced": {"of.name": "test_resnet", "of.indices": [0, 1, 2, 3]},
        "transformers": {
            "family": "dinov3",
            "config": {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2},
        },
    },
    "decoder": {
        "dpt": {"channels": [8], "fusion_channels": 8, "dropout": 0.0},
        "linear": {"level": "all"},
        "mask_transformer": {"channels": 16, "queries": 5, "layers": 3, "heads": 2, "feedforward": 16},
        "ocr": {"channels": 16, "key_channels": 8, "dropout": 0.0},
        "segformer": {"channels": 16, "dropout": 0.0},
        "smp": {"settings": {"decoder_channels": [16, 16, 8, 8, 8]}},
        "unet": {"base_features": 4},
        "upernet": {"channels": 8, "dropout": 0.0},
    },
}
DEEP = {"inflated", "sliced"}
"""Encoders for volumes only."""
