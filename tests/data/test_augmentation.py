"""Augmentations draw from numpy's global generator; expected draws are repeated by hand."""
# ruff: noqa: NPY002

import numpy as np
import pytest

from retinue.data import transforms as T
from retinue.utils.errors import InputError

IMAGE = np.random.RandomState(0).randint(0, 256, (40, 60, 3)).astype(np.uint8)


def seeded(augmentation, *args, seed=5):
    np.random.seed(seed)
    return augmentation.get_transform(*args)


def draws(seed=5):
    return np.random.RandomState(seed)


@pytest.mark.parametrize("seed", range(4))
def test_flip(seed):
    tfm = seeded(T.RandomFlip(0.5), IMAGE, seed=seed)
    flips = draws(seed).uniform(0, 1) < 0.5
    assert type(tfm) is (T.HFlipTransform if flips else T.NoOpTransform)
    assert isinstance(
        T.RandomFlip(1, horizontal=False, vertical=True).get_transform(IMAGE), T.VFlipTransform
    )
    assert isinstance(T.RandomFlip(0).get_transform(IMAGE), T.NoOpTransform)


@pytest.mark.parametrize("both", [True, False])
def test_flip_in_one_direction(both):
    with pytest.raises(ValueError, match="set one of horizontal and vertical"):
        T.RandomFlip(horizontal=both, vertical=both)


@pytest.mark.parametrize(
    ("height", "width", "short", "longest", "expected"),
    [
        (480, 640, 800, 1333, (800, 1067)),
        (640, 480, 800, 1333, (1067, 800)),
        (400, 1000, 800, 1333, (533, 1333)),
        (1000, 400, 800, 1333, (1333, 533)),
        (5, 5, 800, 10**9, (800, 800)),
    ],
)
def test_shortest_edge(height, width, short, longest, expected):
    """By hand: scale by short / min side, or by longest / max side where that is passed."""
    assert T.ResizeShortestEdge.get_output_shape(height, width, short, longest) == expected


def test_shortest_edge_draws():
    tfm = seeded(T.ResizeShortestEdge((20, 30), 1000), IMAGE)
    assert tfm.new_h == draws().randint(20, 31)
    tfm = seeded(T.ResizeShortestEdge((20, 30, 50), 1000, "choice"), IMAGE)
    assert tfm.new_h == draws().choice((20, 30, 50))
    assert isinstance(T.ResizeShortestEdge(0, 1000).get_transform(IMAGE), T.NoOpTransform)


def test_shortest_edge_arguments():
    with pytest.raises(AssertionError, match=r"is \(min, max\); got \(1, 2, 3\)"):
        T.ResizeShortestEdge((1, 2, 3))
    with pytest.raises(AssertionError, match="must be 'range' or 'choice'; got 'choise'"):
        T.ResizeShortestEdge((1, 2), sample_style="choise")


def test_fixed_sizes():
    assert T.Resize(7).get_transform(IMAGE).new_w == 7
    assert T.Resize((7, 9)).get_transform(IMAGE).new_w == 9
    tfm = seeded(T.RandomResize([(1, 2), (3, 4), (5, 6)]), IMAGE)
    assert (tfm.new_h, tfm.new_w) == [(1, 2), (3, 4), (5, 6)][draws().randint(0, 3)]


def test_large_scale_jitter():
    """40 x 60 into 120 x 90 at scale 1: 90 / 60 = 1.5 is the smaller ratio."""
    tfm = T.ResizeScale(1.0, 1.0, 120, 90).get_transform(IMAGE)
    assert (tfm.new_h, tfm.new_w) == (60, 90)
    scaled = seeded(T.ResizeScale(0.1, 2.0, 120, 90), IMAGE)
    assert scaled.new_w == round(90 * draws().uniform(0.1, 2.0))


def test_fixed_size_crop_pads_and_cuts():
    image, tfm = T.apply_augmentations([T.FixedSizeCrop((50, 30))], IMAGE)
    assert image.shape == (50, 30, 3)
    assert (image[40:] == 128).all()
    assert len(tfm) == 2
    np.random.seed(5)
    left = round(30 * draws().uniform(0, 1))
    cut, _ = T.apply_augmentations([T.FixedSizeCrop((50, 30), pad=False)], IMAGE)
    assert (cut == IMAGE[:, left : left + 30]).all()


@pytest.mark.parametrize(
    ("kind", "size", "expected"),
    [
        ("relative", (0.5, 0.25), lambda r: (20, 15)),
        ("absolute", (10, 100), lambda r: (10, 60)),
        ("absolute_range", (10, 20), lambda r: (r.randint(10, 21), r.randint(10, 21))),
        (
            "relative_range",
            (0.5, 0.25),
            lambda r: tuple(
                int(n * (s + v * (1 - s)) + 0.5)
                for n, s, v in zip((40, 60), (0.5, 0.25), r.rand(2), strict=True)
            ),
        ),
    ],
)
def test_crops(kind, size, expected):
    tfm = seeded(T.RandomCrop(kind, size), IMAGE)
    random = draws()
    height, width = expected(random)
    assert (tfm.h, tfm.w) == (height, width)
    assert tfm.y0 == random.randint(40 - height + 1)
    assert tfm.x0 == random.randint(60 - width + 1)


def test_crop_arguments():
    with pytest.raises(
        AssertionError, match="crop_type of RandomCrop 'absolut'; did you mean 'absolute'"
    ):
        T.RandomCrop("absolut", (1, 1))
    with pytest.raises(AssertionError, match=r"absolute_range is \(min, max\)"):
        T.RandomCrop("absolute_range", (5, 1))
    with pytest.raises(InputError, match=r"80 x 60 pixels of an image of 40 x 60"):
        T.RandomCrop("relative", (2.0, 1.0)).get_transform(IMAGE)


def test_crops_avoid_one_class():
    """The left half is class 0, the right half has both; a crop of one class only is avoided."""
    labels = np.zeros((40, 60), dtype=np.uint8)
    labels[::2, 30:] = 1
    augmentation = T.RandomCrop_CategoryAreaConstraint("absolute", (10, 10), 0.75)
    for seed in range(5):
        np.random.seed(seed)
        tfm = augmentation.get_transform(IMAGE, labels)
        counts = np.bincount(tfm.apply_image(labels).reshape(-1))
        assert len(counts) > 1
        assert counts.max() < 75
    assert isinstance(
        T.RandomCrop_CategoryAreaConstraint("absolute", (9, 9)).get_transform(IMAGE, labels),
        T.CropTransform,
    )
    ignoring = T.RandomCrop_CategoryAreaConstraint("absolute", (9, 9), 0.5, ignored_category=0)
    assert isinstance(ignoring.get_transform(IMAGE, labels), T.CropTransform)


def test_extent_and_rotation():
    extent = seeded(T.RandomExtent((0.5, 0.5), (0, 0)), IMAGE)
    np.testing.assert_allclose(extent.src_rect, (15, 10, 45, 30))
    assert extent.output_size == (20, 30)
    turn = seeded(T.RandomRotation((-30, 30)), IMAGE)
    assert turn.angle == draws().uniform(-30, 30)
    turn = seeded(T.RandomRotation([10, 20], False, [[0.5, 0.5], [1, 1]]), IMAGE)
    random = draws()
    angle = random.uniform(10, 20)
    assert turn.angle == angle
    assert turn.center == (60 * random.uniform(0.5, 1), 40 * random.uniform(0.5, 1))
    picked = T.RandomRotation([90], False, [0.25, 0.5], "choice").get_transform(IMAGE)
    assert (picked.angle, picked.center) == (90, (15, 20))
    assert isinstance(T.RandomRotation(0).get_transform(IMAGE), T.NoOpTransform)


@pytest.mark.parametrize(
    ("kind", "other"),
    [
        (T.RandomContrast, lambda image: image.mean()),
        (T.RandomBrightness, lambda image: 0),
        (T.RandomSaturation, lambda image: (image @ [0.299, 0.587, 0.114])[..., None]),
    ],
)
def test_intensities(kind, other):
    tfm = seeded(kind(0.2, 1.8), IMAGE)
    weight = draws().uniform(0.2, 1.8)
    want = (1 - weight) * other(IMAGE) + weight * IMAGE.astype(np.float32)
    assert (tfm.apply_image(IMAGE) == np.clip(want, 0, 255).astype(np.uint8)).all()


def test_lighting():
    augmentation = T.RandomLighting(10.0)
    tfm = seeded(augmentation, IMAGE)
    weights = draws().normal(scale=10.0, size=3)
    want = augmentation.eigen_vecs @ (weights * augmentation.eigen_vals)
    np.testing.assert_allclose(tfm.src_image, want)


@pytest.mark.parametrize("kind", [T.RandomSaturation(0.5, 1), T.RandomLighting(1.0)])
def test_colours_need_rgb(kind):
    with pytest.raises(
        AssertionError, match=r"needs an RGB image \(H, W, 3\); got shape \(4, 4, 1\)"
    ):
        kind.get_transform(np.zeros((4, 4, 1), dtype=np.uint8))


def test_min_iou_crops_keep_boxes():
    boxes = np.array([[10.0, 10, 40, 30], [20, 5, 50, 35]])
    augmentation = T.MinIoURandomCrop()
    kinds = set()
    for seed in range(20):
        np.random.seed(seed)
        tfm = augmentation.get_transform(IMAGE, boxes)
        kinds.add(type(tfm))
        if isinstance(tfm, T.CropTransform):
            x1, y1 = tfm.x0 + tfm.w, tfm.y0 + tfm.h
            wide = np.minimum(boxes[:, 2], x1) - np.maximum(boxes[:, 0], tfm.x0)
            high = np.minimum(boxes[:, 3], y1) - np.maximum(boxes[:, 1], tfm.y0)
            inner = np.clip(wide, 0, None) * np.clip(high, 0, None)
            union = (boxes[:, 2:] - boxes[:, :2]).prod(1) + tfm.w * tfm.h - inner
            assert (inner / union).min() >= augmentation.mode - 0.05  # sizes are cut to pixels
    assert kinds == {T.CropTransform, T.NoOpTransform}
    assert isinstance(augmentation.get_transform(IMAGE, None), T.NoOpTransform)
    np.random.seed(2)
    none = T.MinIoURandomCrop(mode_trials=0).get_transform(IMAGE, boxes)
    assert isinstance(none, T.NoOpTransform)
    assert T.MinIoURandomCrop(()).get_transform(IMAGE, np.zeros((0, 4))) is not None


def test_apply_sometimes():
    always = T.RandomApply(T.HFlipTransform(60), 1.0)
    never = T.RandomApply(T.RandomFlip(1.0), 0.0)
    assert isinstance(always(T.AugInput(IMAGE)), T.HFlipTransform)
    assert isinstance(never(T.AugInput(IMAGE)), T.NoOpTransform)
    assert isinstance(never.get_transform(IMAGE), T.NoOpTransform)
    with pytest.raises(AssertionError, match="prob must be between 0 and 1; got 2"):
        T.RandomApply(T.NoOpTransform(), 2)
    with pytest.raises(AssertionError, match="needs an Augmentation or a Transform; got 3"):
        T.RandomApply(3)


def test_inputs_change_together():
    aug_input = T.AugInput(
        IMAGE, boxes=np.array([[0.0, 0, 6, 4]]), sem_seg=np.zeros((40, 60), dtype=np.uint8)
    )
    transforms = T.AugmentationList([T.Resize((20, 30)), T.HFlipTransform(30)])(aug_input)

    assert aug_input.image.shape == (20, 30, 3)
    assert aug_input.sem_seg.shape == (20, 30)
    assert aug_input.boxes.tolist() == [[27, 0, 30, 2]]
    assert len(transforms) == 2


def test_an_image_alone():
    image, transforms = T.apply_augmentations([T.RandomFlip(1.0)], IMAGE)
    assert (image == IMAGE[:, ::-1]).all()
    same_input, _ = T.apply_augmentations([T.NoOpTransform()], T.AugInput(image))
    assert same_input.image is image
    assert len(transforms) == 1
    with pytest.raises(AssertionError, match=r"must be an array \(H, W\) or \(H, W, C\); got list"):
        T.AugInput([1, 2])
    with pytest.raises(AssertionError, match=r"got shape \(4,\)"):
        T.AugInput(np.zeros(4))


def test_own_augmentations_name_what_they_need():
    class Boxes(T.Augmentation):
        def get_transform(self, image, boxes):
            return T.NoOpTransform()

    class Anything(T.Augmentation):
        def get_transform(self, image, *rest):
            return T.NoOpTransform()

    class Other(T.Augmentation):
        def get_transform(self, picture, weather):
            return T.NoOpTransform()

    class Wrong(T.Augmentation):
        def get_transform(self, picture):
            return 3

    aug_input = T.AugInput(IMAGE)
    assert isinstance(Boxes()(aug_input), T.NoOpTransform)
    with pytest.raises(TypeError, match=r"Anything.get_transform takes \*rest"):
        Anything()(aug_input)
    with pytest.raises(AttributeError, match="Other needs the input's 'picture'"):
        Other()(aug_input)
    with pytest.raises(
        AssertionError, match=r"Wrong.get_transform must return a Transform; got int"
    ):
        Wrong()(aug_input)
    with pytest.raises(NotImplementedError, match="Augmentation must define get_transform"):
        T.Augmentation().get_transform(IMAGE)


def test_text():
    """As detectron2 writes augmentations into its log."""
    style = T.ResizeShortestEdge((800,), 1333, "choice")
    want = "ResizeShortestEdge(short_edge_length=(800,), max_size=1333, sample_style='choice')"
    assert repr(style) == str(style) == want
    assert str(T.AugmentationList([T.RandomFlip(0.2)])) == "AugmentationList[RandomFlip(prob=0.2)]"
    assert str(T.AugmentationList([T.NoOpTransform()])) == "AugmentationList[NoOpTransform()]"
    assert repr(T.RandomApply(T.NoOpTransform())).startswith("<retinue")  # no attribute tfm_or_aug


def test_old_names():
    assert T.TransformGen is T.Augmentation
    assert T.StandardAugInput is T.AugInput
    assert T.apply_transform_gens is T.apply_augmentations
