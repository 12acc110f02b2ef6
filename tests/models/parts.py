"""Settings that make encoders and decoders fast enough for a test, by option; others run as their yaml stands."""

SMALL: dict[str, dict[str, dict[str, object]]] = {
    "encoder": {
        "timm": {"name": "test_resnet"},
        "copernicus_fm": {"embed_dim": 16, "depth": 4, "num_heads": 2},
        "croma": {"embed_dim": 16, "depth": 4},
        "dofa": {"embed_dim": 16, "depth": 4, "num_heads": 2},
        "panopticon": {"embed_dim": 16, "depth": 4, "num_heads": 2, "attn_dim": 16},
        "scalemae": {"embed_dim": 16, "depth": 4, "num_heads": 2},
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
