"""Pixel statistics of ImageNet, for images in 0..255."""

constants = {
    "imagenet_rgb256_mean": [123.675, 116.28, 103.53],
    "imagenet_rgb256_std": [58.395, 57.12, 57.375],
    # Models converted from Caffe2 take BGR and have the deviation folded into their first layer.
    "imagenet_bgr256_mean": [103.530, 116.280, 123.675],
    "imagenet_bgr256_std": [1.0, 1.0, 1.0],
}
