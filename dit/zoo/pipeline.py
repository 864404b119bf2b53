"""From classes to images: a network, its process and its codec, with the sampling defaults they were exported with.

    pipe = load_pipeline("dit_ti_2.mnist")
    images = pipe([7, 3], steps=20, guidance=1.5, seed=0)

The same `dit.sampling.sample` serves here, in previews and in evaluations. Noise is keyed by the seed and the
sample's position, so that an image does not depend on the batch it was made in.

N images, B of them in a batch, C x H x W latents, K classes.
"""

import math
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor

from dit.device import choose_device
from dit.diffusion.create import create_process
from dit.diffusion.process import Process
from dit.errors import ConfigError, DitError
from dit.files import new_folder, sha256
from dit.latents.codec import Codec
from dit.layers.compiler import Compilation, check_compilation, expect_no_gpu
from dit.layers.precision import bf16_pays
from dit.layers.quantize import Quantization, check_torchao, quantize_linears
from dit.models.graphs import Graphs
from dit.models.network import Network, compile_blocks, narrowest_width
from dit.rng import Purpose, uniform
from dit.sampling.config import SamplingConfig, changed
from dit.sampling.network import check_conditions
from dit.sampling.sampler import Callback, Sampled, sample
from dit.validation import validate
from dit.zoo.cards.card import write_card
from dit.zoo.folder.config import FolderConfig, ModelDescription, write_config
from dit.zoo.folder.weights import check_finite, empty_model, fill, save_weights, stored_types, usual_type
from dit.zoo.hub.push import push
from dit.zoo.labels import parse_classes
from dit.zoo.source import Located, locate
from dit.zoo.turns import Turns


def load_pipeline(
    source: str | Path,
    revision: str | None = None,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    quantize: Quantization | None = None,
    *,
    published: bool = False,
    guide: str | Path | None = None,
    adapter: str | Path | None = None,
    compiled: Compilation = "off",
    offload: bool = False,
    decoder_tile: int | None = None,
) -> "Pipeline":
    """Load everything that makes images.

    Args:
        source: zoo name, run folder, exported folder, `.safetensors` file of one of them, or Hub id.
        revision: branch, tag or commit of a Hub id.
        device: where to compute; the first accelerator, else the CPU, by default.
        dtype: type of the weights and of the network's arithmetic. By default the file's; but where bfloat16 is faster
            (GPUs, wide networks on CPUs with AMX), the blocks and the decoder of a float32 file compute in that. On a
            CPU weights of float16 compute as those of float32 do.
        quantize: hold the weights of the blocks in 8 bits, and with "int8" compute their products so: images change.
        published: take the setting of the best published figure, with its guide, rounding and decoding autoencoder, in
            place of the defaults.
        guide: source of a weaker model that guides in place of the null class (autoguidance).
        adapter: file, or folder, of `dit export --adapter`, which goes over the weights and is merged into them.
        compiled: the network's blocks, or on a GPU its calls as CUDA graphs too, for many images of one batch size;
            images change a little.
        offload: keep the weights on the host, the network on the device only while it samples, and the autoencoder only
            while it decodes.
        decoder_tile: decode image by image, in tiles of so many latent positions a side: images change a little.

    Raises:
        ConfigError: there is no such source, device or published setting; the network can't be quantised or compiled
            here, or not while its weights are on the host; the autoencoder can't decode in tiles; or the guide is not
            for these latents.
        DitError: what is there is damaged or lacks a part; or the adapter is another model's.
    """
    device = choose_device(device)
    if quantize is not None:
        check_torchao()
    check_compilation(compiled, device)
    if offload and (quantize is not None or compiled == "graphs"):
        found = f"quantize {quantize}" if quantize is not None else "compiled graphs"
        raise ConfigError(f"offload: expected weights that may move, found {found}; leave out one of them")
    located = locate(source, revision, published=published, adapter=adapter)
    config = located.config
    setting = config.published if published else None
    if setting is not None:
        guide = guide or setting.guide
    if config.latents is None:
        raise DitError(
            f"{located.folder}: its config.json has no latents, so nothing can be decoded; give it its autoencoder, "
            f"{config.provenance.autoencoder or 'which is not known'}: dit convert {source} DST --vae NAME"
        )
    weaker = None if guide is None else locate(guide)
    if weaker is not None:
        _check_guide(weaker.config, config)
    place = torch.device("cpu") if offload else device
    model, process = _load_network(located, device, dtype, quantize, place)
    codec = Codec.from_description(config.latents, folder=located.folder, device=place).in_tiles(decoder_tile)
    if setting is not None:
        codec.rounding = setting.rounding
    if dtype is not None:
        codec.exact()
    files = {path.name: path for path in located.weights}
    pipeline = Pipeline(model, process, codec, config, weights=files, quantize=quantize)
    if weaker is not None:
        pipeline.weaker, _ = _load_network(weaker, device, dtype, place=place)
        pipeline.weights |= {f"guide {path.name}": path for path in weaker.weights}
    if compiled != "off":
        pipeline.compile(compiled)
    return pipeline.offload(device) if offload else pipeline


def _check_guide(guide: FolderConfig, config: FolderConfig) -> None:
    """Refuse a guide for other latents, classes or another process."""
    for name in ("in_channels", "input_size", "num_classes"):
        ours, theirs = (getattr(found.model.arguments, name) for found in (config, guide))
        if ours != theirs:
            raise ConfigError(f"guide: expected a model of {name} {ours}, found {theirs}")
    if guide.process != config.process:
        raise ConfigError("guide: expected a model of the same process, found another")


def _load_network(
    located: Located,
    device: torch.device,
    dtype: torch.dtype | None,
    quantize: Quantization | None = None,
    place: torch.device | None = None,
) -> tuple[Network, Process]:
    """Load a network, onto `place` where that is another device, and its process; see `load_pipeline`."""
    config = located.config
    empty = empty_model(config.model)
    usual = dtype or usual_type(located.weights, device)
    is_float32 = usual == torch.float32 or stored_types(located.weights) <= {"F32"}
    is_fast = dtype is None and is_float32 and bf16_pays(device, narrowest_width(empty))
    blocks = torch.bfloat16 if is_fast else None
    process = create_process(config.process)
    check_conditions(empty, process)
    model = fill(empty, located.weights, device=place or device, dtype=usual, block_dtype=blocks)
    if quantize is not None:
        quantize_linears(model.block_list(), quantize)
    return model, process


MAX_IMAGES = 10_000_000
MAX_SEED = 2**63 - 1


@dataclass
class Pipeline:
    """A network that is ready to make images."""

    model: Network
    """The network, in eval mode."""
    process: Process
    """The process it was trained for."""
    codec: Codec
    """Between latents and images."""
    config: FolderConfig
    """What was read: names, defaults, class names, provenance."""
    weaker: Network | None = None
    """A second network that guides in place of the null class."""
    weights: dict[str, Path] = field(default_factory=dict)
    """Name -> weight file; a guide's begin with "guide "."""
    quantize: Quantization | None = None
    """What of the blocks is in 8 bits."""
    compilation: Compilation = "off"
    """How the networks are compiled."""
    turns: Turns | None = None
    """Which of network and codec is on the device; None: both."""

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return next(self.model.parameters()).device if self.turns is None else self.turns.device

    @property
    def precision(self) -> str:
        """Number type of the blocks, or how they are quantised."""
        return self.quantize or str(next(self.model.block_list()[0].parameters()).dtype).removeprefix("torch.")

    @property
    def num_classes(self) -> int:
        """Number of classes K; 0 is unconditional."""
        return self.config.num_classes

    @property
    def class_names(self) -> list[str]:
        """Name of every class, by id."""
        return self.config.class_names

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of a latent."""
        arguments = self.config.model.arguments
        return arguments.in_channels, *arguments.input_size

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the images."""
        _, height, width = self.latent_shape
        return height * self.codec.downscale, width * self.codec.downscale

    def to(self, device: str | torch.device) -> "Pipeline":
        """Move the networks and the codec; what was recorded of calls is recorded anew."""
        for network in self._networks():
            network.to(device)
            network.graphs = None if network.graphs is None else Graphs()
        self.codec.to(device)
        return self

    def compile(self, kind: Compilation) -> "Pipeline":
        """Compile the networks; see `load_pipeline`.

        Raises:
            ConfigError: it can't be had here.
        """
        check_compilation(kind, self.device)
        if self.device.type == "cpu":
            expect_no_gpu()
        for network in self._networks():
            compile_blocks(network, dynamic=False)
            network.graphs = Graphs() if kind == "graphs" else None
        self.compilation = kind
        return self

    def offload(self, device: str | torch.device) -> "Pipeline":
        """Keep the weights on the host, and on a device only what computes."""
        self.to("cpu")
        self.turns = Turns(torch.device(device), {"network": self._networks(), "codec": [self.codec]})
        return self

    def bring(self, part: Literal["network", "codec"]) -> None:
        """Have the network, or the codec, on the device, where they share it."""
        if self.turns is not None:
            self.turns.bring(part)

    def _networks(self) -> list[Network]:
        return [network for network in (self.model, self.weaker) if network is not None]

    @classmethod
    def of(
        cls,
        name: str,
        model: Network,
        process: Process,
        codec: Codec,
        *,
        class_names: Sequence[str] = (),
        sampling: SamplingConfig | None = None,
    ) -> "Pipeline":
        """Put a pipeline together from one's own parts.

        Args:
            name: the variant that the network is of, such as "dit_ti_2"; its arguments are the network's own.
            model: the network, which is put in eval mode.
            process: the process that it was trained for.
            codec: between its latents and images, on the same device.
            class_names: name of every class, by id; numbers by default.
            sampling: defaults for sampling.
        """
        config = FolderConfig(
            model=ModelDescription(name=name, arguments=model.arguments),
            process=process.config,
            latents=codec.describe(),
            sampling=sampling or SamplingConfig(),
            id2label={str(i): class_name for i, class_name in enumerate(class_names)},
        )
        return cls(model.eval(), process, codec, config)

    @classmethod
    def from_pretrained(cls, source: str | Path, **options: Any) -> "Pipeline":
        """Load a pipeline by `load_pipeline`, by the name that users of the Hub know."""
        return load_pipeline(source, **options)

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write an exported folder: weights, configuration and card, there whole or not at all.

        Args:
            folder: new or empty folder.

        Raises:
            ConfigError: it is not empty.
            DitError: the weights hold NaN or infinity.
        """
        folder, tensors = Path(folder), self.model.state_dict()
        check_finite(folder, tensors)
        with new_folder(folder) as written:
            save_weights(tensors, written, "model")
            write_config(written, self.config)
            self.codec.save(written)
            write_card(written, source=str(folder))
        return folder

    def push_to_hub(self, repository: str, **options: Any) -> str | None:
        """Publish on the Hub what `save_pretrained` writes, by `dit.zoo.hub.push.push`, and return its address.

        Args:
            repository: org/name.
            options: of `dit push`: license, private, revision, tag, create_pr, dry_run.
        """
        with tempfile.TemporaryDirectory() as temporary:
            folder = self.save_pretrained(Path(temporary) / repository.rpartition("/")[2])
            return push(folder, repository, **options).address

    def __call__(
        self,
        classes: str | int | Iterable[str | int] | None = None,
        *,
        num: int | None = None,
        seed: int = 0,
        size: int | tuple[int, int] | None = None,
        batch_size: int = 32,
        **options: Any,
    ) -> list[Image.Image]:
        """Make images.

        Args:
            classes: ids or names, in turn; every class in turn by default.
            num: how many images; one per class by default.
            seed: of the noise, at least 0.
            size: height and width of the images; only the size the model was made for is possible.
            batch_size: images at a time; changes nothing but memory and speed.
            options: start noise, callback and fields of `SamplingConfig`: see `sample_latents`.

        Returns:
            N pictures, mode L or RGB.

        Raises:
            ConfigError: an unknown class, or a value out of range; the field is named.
            DitError: the network returned NaN or infinity.
        """
        self._check_size(size)
        return to_pictures(self.sample_images(classes, num=num, seed=seed, batch_size=batch_size, **options))

    def sample_images(
        self, classes: str | int | Iterable[str | int] | None = None, *, batch_size: int = 32, **options: Any
    ) -> Tensor:
        """Make images as a tensor (N, channels, height, width) uint8 on the model's device; see `sample_latents`."""
        latents = self.sample_latents(classes, batch_size=batch_size, **options)
        return self.decode(latents, batch_size=batch_size)

    def fingerprints(self) -> dict[str, str]:
        """Return the SHA-256 of every weight file, by name."""
        return {name: sha256(path) for name, path in self.weights.items()}

    def random_labels(self, num: int | None, *, seed: int) -> Tensor:
        """Draw the labels of `num` images from all classes alike: (N,) int64; they depend on seed and position."""
        num = _check_count("num", max(1, self.num_classes) if num is None else num)
        u = uniform(seed, Purpose.CLASS, range(num))
        return (u * max(1, self.num_classes)).long()

    def labels(self, classes: str | int | Iterable[str | int] | None = None, num: int | None = None) -> Tensor:
        """Return the label of each of N images, the classes in turn: (N,) int64.

        Raises:
            ConfigError: an unknown class, or classes asked of an unconditional model.
        """
        if self.num_classes == 0:
            if classes is not None:
                raise ConfigError(f"classes: expected none, the model is unconditional; found {classes!r}")
            ids = [0]
        else:
            ids = list(range(self.num_classes)) if classes is None else parse_classes(classes, self.class_names)
        num = _check_count("num", len(ids) if num is None else num)
        return torch.tensor(ids).repeat(math.ceil(num / len(ids)))[:num]

    def sample_latents(
        self,
        classes: str | int | Iterable[str | int] | None = None,
        *,
        num: int | None = None,
        seed: int = 0,
        batch_size: int = 32,
        noise: Tensor | None = None,
        callback: Callback | None = None,
        **sampling: Any,
    ) -> Tensor:
        """Make normalised latents.

        Args:
            classes: ids or names, in turn; every class in turn by default.
            num: how many; one per class by default.
            seed: of the noise, at least 0.
            batch_size: latents at a time.
            noise: (N, C, H, W) start noise in place of the seed's, of the schedule's deviation: 1, but for EDM.
            callback: callback(k, t_k, x (B, C, H, W), predicted x_0 (B, C, H, W)) after each step of each batch.
            sampling: fields of `SamplingConfig` that differ from the model's defaults: steps, solver, guidance, ...;
                a solver or grid with options is a mapping, {"name": "ddim", "eta": 0.5}.

        Returns:
            (N, C, H, W) float32 on the model's device.

        Raises:
            ConfigError: an unknown class, a value out of range, or noise of another shape; the field is named.
            DitError: the network returned NaN or infinity.
        """
        settings = self.settings(**sampling)
        _check_count("seed", seed, lowest=0, highest=MAX_SEED)
        _check_count("batch_size", batch_size)
        labels = self.labels(classes, num)
        if noise is not None and (expected := (len(labels), *self.latent_shape)) != tuple(noise.shape):
            raise ConfigError(f"noise: expected a tensor {expected}, found {tuple(noise.shape)}")
        drawn = [
            self.draw(
                labels[batch],
                batch.tolist(),
                settings,
                seed,
                noise=None if noise is None else noise[batch],
                callback=callback,
            )
            for batch in torch.arange(len(labels)).split(batch_size)
        ]
        return torch.cat([sampled.latents for sampled in drawn])

    def decode(self, latents: Tensor, *, batch_size: int = 32) -> Tensor:
        """Decode normalised latents (N, C, H, W) to images (N, channels, height, width) uint8."""
        self.bring("codec")
        return torch.cat([self.codec.decode(part) for part in latents.split(batch_size)])

    def begin_decode(self, latents: Tensor) -> Callable[[], Tensor]:
        """Begin to decode normalised latents (N, C, H, W) without waiting for a GPU; see `Codec.begin_decode`."""
        self.bring("codec")
        return self.codec.begin_decode(latents)

    def sampler(self, *, seed: int = 0, **sampling: Any) -> "PipelineSampler":
        """Return a function from labels and sample positions to images, as the evaluation asks for.

        Raises:
            ConfigError: a value out of range; the field is named.
        """
        _check_count("seed", seed, lowest=0, highest=MAX_SEED)
        return PipelineSampler(self, self.settings(**sampling), seed)

    def settings(self, **sampling: Any) -> SamplingConfig:
        """Return the model's sampling defaults with some fields replaced, which may be dotted: `solver.eta`.

        Raises:
            ConfigError: an unknown field or a value out of range.
        """
        given = {name: value for name, value in sampling.items() if value is not None}
        return validate(SamplingConfig, changed(self.config.sampling, given), origin="sampling")

    def draw(
        self,
        labels: Tensor,
        positions: Sequence[int],
        settings: SamplingConfig,
        seed: int,
        *,
        noise: Tensor | None = None,
        callback: Callback | None = None,
    ) -> Sampled:
        """Sample one batch.

        Args:
            labels: (B,) int64.
            positions: B global sample positions; with the seed they decide the noise.
            settings: from `settings`.
            seed: at least 0.
            noise: (B, C, H, W) start noise in place of the seed's.
            callback: sees each step; see `sample_latents`.
        """
        self.bring("network")
        return sample(
            self.model,
            self.process,
            labels.to(self.device),
            self.latent_shape,
            sampling=settings,
            seed=seed,
            positions=positions,
            noise=noise,
            weaker=self.weaker,
            callback=callback,
        )

    def _check_size(self, size: int | tuple[int, int] | None) -> None:
        if size is None:
            return
        wanted = (size, size) if isinstance(size, int) else tuple(size)
        if wanted != self.image_size:
            height, width = self.image_size
            raise ConfigError(
                f"size: expected {height}x{width}, the only size that {self.config.model.name} with this codec makes, "
                f"found {'x'.join(map(str, wanted))}"
            )


class PipelineSampler:
    """Makes the images of an evaluation, and counts the network's calls."""

    def __init__(self, pipeline: Pipeline, settings: SamplingConfig, seed: int) -> None:
        self.pipeline, self.settings, self.seed = pipeline, settings, seed
        self.num_calls = 0

    def __call__(self, labels: Tensor, positions: Sequence[int], /) -> Tensor:
        """Return images (B, channels, height, width) uint8 for labels (B,) int64 and B global sample positions."""
        sampled = self.pipeline.draw(labels, positions, self.settings, self.seed)
        self.num_calls += sampled.num_calls
        return self.pipeline.decode(sampled.latents, batch_size=len(labels))


def to_pictures(images: Tensor) -> list[Image.Image]:
    """Turn images (N, 1 or 3, height, width) uint8 into pictures of mode L or RGB."""
    arrays = images.permute(0, 2, 3, 1).cpu().numpy()  # (N, height, width, channels)
    return [Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array) for array in arrays]


def _check_count(field: str, value: Any, *, lowest: int = 1, highest: int = MAX_IMAGES) -> int:
    if type(value) is not int or value < lowest:
        raise ConfigError(f"{field}: expected a whole number of at least {lowest}, found {value!r}")
    if value > highest:
        raise ConfigError(f"{field}: expected a whole number of at most {highest}, found {value}")
    return value
