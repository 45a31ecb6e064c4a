"""Settings of `make_net` for a training of a second."""

PARAMETERS = {
    "n_classes": 2,
    "n_mels": 8,
    "n_frames": 12,
    "n_windows": 20,
    "center_loss_weight": 0.1,
    "center_lr": 0.5,
    "lr": 1e-3,
    "weight_decay": 0.0,
    "batch_size": 8,
    "max_epochs": 3,
    "device": "cpu",
    "precision": "float32",
    "verbose": 0,
}
