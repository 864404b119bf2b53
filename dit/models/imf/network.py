"""iMF: a plain transformer that returns an average velocity; class, step and guidance are tokens before the patches.

[class | guidance | interval | step | patches] -> shared blocks -> blocks of u, and in training blocks of v -> an image.
State-dict keys are the published ones without their wrappers.

B batch, C latent channels, H x W latent, p patch, E tokens of conditions, T = HW/p^2 patches, D width, d head width.

Source: Geng et al., "Improved mean flows: on the challenges of fastforward generative models", 2025, section 4.
"""

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from dit.errors import ConfigError
from dit.layers.attention import attend
from dit.layers.embed import LabelEmbedder, PatchEmbed, TimestepEmbedder, unpatchify
from dit.layers.linear import linear
from dit.layers.mlp import SeparateSwiGlu
from dit.layers.norm import rms_norm
from dit.layers.position import rotary_1d, rotate
from dit.layers.precision import dtype_of
from dit.models.fit import channel_ratio, fit_labels, fit_outputs, fit_patches
from dit.models.imf.arguments import ImfArguments
from dit.models.network import Network

LABELS = "y_embedder.embedding_table.weight"


class ImfAttention(nn.Module):
    """Self-attention with separate layers for queries, keys and values, without biases."""

    def __init__(self, hidden_size: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (
            nn.Linear(hidden_size, hidden_size, bias=False) for _ in range(4)
        )
        self.q_norm = rms_norm(hidden_size // num_heads)
        self.k_norm = rms_norm(hidden_size // num_heads)

    def forward(self, x: Tensor, rotary: Tensor) -> Tensor:
        """Return (B, T, D) for tokens x (B, T, D) and turns (2, T, d/2)."""
        q, k, v = (
            linear(x, layer).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for layer in (self.q_proj, self.k_proj, self.v_proj)
        )  # each (B, heads, T, d)
        attended = attend(rotate(self.q_norm(q), rotary), rotate(self.k_norm(k), rotary), v)
        return linear(attended.transpose(1, 2).flatten(2), self.out_proj)


class ImfBlock(nn.Module):
    """Attention and MLP, each normalised and scaled by a learned vector that starts at zero."""

    def __init__(self, arguments: ImfArguments) -> None:
        super().__init__()
        width = arguments.hidden_size
        self.norm1 = rms_norm(width)
        self.attn = ImfAttention(width, arguments.num_heads)
        self.attn_scale = nn.Parameter(torch.zeros(width))
        self.norm2 = rms_norm(width)
        self.mlp = SeparateSwiGlu(width, arguments.mlp_width)
        self.mlp_scale = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor, rotary: Tensor) -> Tensor:
        """Return (B, T, D) for tokens x (B, T, D) and turns (2, T, d/2)."""
        x = x + self.attn(self.norm1(x), rotary) * self.attn_scale
        return x + self.mlp(self.norm2(x)) * self.mlp_scale


class FinalLayer(nn.Module):
    """Normalisation, then a Linear to the values of a patch."""

    def __init__(self, hidden_size: int, num_values: int) -> None:
        super().__init__()
        self.norm = rms_norm(hidden_size)
        self.linear = nn.Linear(hidden_size, num_values)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, T, num_values) for tokens x (B, T, D)."""
        return self.linear(self.norm(x))


class Imf(Network):
    """Class-conditional iMF over latents; see `ImfArguments` for what it is built from."""

    arguments: ImfArguments
    condition_names: ClassVar[tuple[str, ...]] = ("h", "guidance", "t_min", "t_max")
    tokens_shape: ClassVar[tuple[int, ...]] = ()
    """Leading axes of the tokens in the published files."""
    keeps_final_layer: ClassVar[bool] = True
    """Whether published files hold the last layer of v also where its blocks are left out."""

    def __init__(self, arguments: ImfArguments) -> None:
        super().__init__(arguments)
        width, num_values = arguments.hidden_size, arguments.patch_size**2 * arguments.in_channels
        self.x_embedder = self._make_embedder(arguments)
        self.h_embedder = TimestepEmbedder(width)
        self.omega_embedder = TimestepEmbedder(width)
        self.cfg_t_start_embedder = TimestepEmbedder(width)
        self.cfg_t_end_embedder = TimestepEmbedder(width)
        self.y_embedder = LabelEmbedder(arguments.num_classes + (arguments.null_class is not None), width)
        for name, number in (
            ("class", arguments.num_class_tokens),
            ("omega", arguments.num_guidance_tokens),
            ("t_min", arguments.num_interval_tokens),
            ("t_max", arguments.num_interval_tokens),
            ("time", arguments.num_time_tokens),
        ):
            setattr(self, f"{name}_tokens", nn.Parameter(torch.empty(*self.tokens_shape, number, width)))
        self.shared_blocks = nn.ModuleList(ImfBlock(arguments) for _ in range(arguments.depth - arguments.head_depth))
        self.u_heads = nn.ModuleList(ImfBlock(arguments) for _ in range(arguments.head_depth))
        self.u_final_layer = FinalLayer(width, num_values)
        if arguments.velocity_head:
            self.v_heads = nn.ModuleList(ImfBlock(arguments) for _ in range(arguments.head_depth))
        if arguments.velocity_head or self.keeps_final_layer:
            self.v_final_layer = FinalLayer(width, num_values)
        if not self.u_final_layer.linear.weight.is_meta:
            self.initialize_weights()

    def _make_embedder(self, arguments: ImfArguments) -> nn.Module:
        return PatchEmbed(arguments.in_channels, arguments.hidden_size, arguments.patch_size)

    def initialize_weights(self) -> None:
        """Draw the weights as published: each block the identity, the outputs zero."""
        width = self.arguments.hidden_size
        blocks = {layer for block in self.block_list() for layer in block.modules()}
        for module in self.modules():
            if isinstance(module, nn.Linear):
                scale = 0.32 if module in blocks else 1.0
                nn.init.normal_(module.weight, std=scale / module.in_features**0.5)
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight.flatten(1))
            if isinstance(module, nn.Linear | nn.Conv2d) and module.bias is not None:
                nn.init.zeros_(module.bias)
        nn.init.normal_(self.y_embedder.embedding_table.weight, std=width**-0.5)
        for name, parameter in self.named_parameters():
            if name.endswith("_tokens"):
                nn.init.normal_(parameter, std=width**-0.5)
            if name.endswith("_final_layer.linear.weight"):
                nn.init.zeros_(parameter)

    def forward(
        self,
        x_t: Tensor,
        t: Tensor,
        y: Tensor,
        *,
        h: Tensor | None = None,
        guidance: Tensor | None = None,
        t_min: Tensor | None = None,
        t_max: Tensor | None = None,
        heads: Literal["u", "v", "uv"] = "u",
    ) -> Tensor:
        """Predict the average velocity over a step, or the velocity.

        Args:
            x_t: (B, C, H, W) noised latents.
            t: (B,) time at the start of the step; t=1 is noise.
            y: (B,) int64 labels in [0, K]; K is the null class.
            h: (B,) length of the step.
            guidance: (B,) guidance scale, at least 1; left out: 1, which is off.
            t_min: (B,) least time at which guidance acts; left out: 0.
            t_max: (B,) largest time at which guidance acts; left out: 1.
            heads: u is the average velocity, v the velocity, of networks with a velocity head; uv: both.

        Returns:
            (B, C, H, W), or (B, 2C, H, W) with u before v.

        Raises:
            ConfigError: there is no h, or the latents have another shape than the network was built for.
        """
        outputs = self._outputs(x_t, t, y, h, guidance, t_min, t_max, heads=heads)
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=1)

    def block_list(self) -> list[nn.Module]:
        """Return the blocks in the order they run."""
        of_v = self.v_heads if self.arguments.velocity_head else ()
        return [*self.shared_blocks, *self.u_heads, *of_v]

    def fit(self, weights: Mapping[str, Tensor], old: ImfArguments, rows: Mapping[int, int]) -> dict[str, Tensor]:
        """Return the weights that this freshly drawn network starts from: see `dit.models.network.CanFit`."""
        fresh, times = self.state_dict(), channel_ratio(old, self.arguments)
        fitted = dict(weights) | {LABELS: fit_labels(fresh[LABELS], weights[LABELS], rows)}
        entrance = next(name for name in fresh if name.startswith("x_embedder.") and name.endswith("weight"))
        fitted[entrance] = fit_patches(weights[entrance], times)
        for name in (name for name in fresh if "_final_layer.linear." in name):
            fitted[name] = fit_outputs(fresh[name], weights[name], times, old.in_channels, old_parts=1, new_parts=1)
        return fitted

    def _outputs(
        self,
        x_t: Tensor,
        t: Tensor,
        y: Tensor,
        h: Tensor | None,
        guidance: Tensor | None,
        t_min: Tensor | None,
        t_max: Tensor | None,
        *,
        heads: str,
    ) -> list[Tensor]:
        """Return the outputs of these heads, each (B, C, H, W)."""
        arguments = self.arguments
        if h is None:
            raise ConfigError("h: expected the step t - r besides t, as in model(x_t, t, y, h=h), found none")
        self.check_input(x_t)
        guidance = torch.ones_like(h) if guidance is None else guidance
        t_min = torch.zeros_like(h) if t_min is None else t_min
        t_max = torch.ones_like(h) if t_max is None else t_max
        conditions = (
            (self.y_embedder(y), self.get_parameter("class_tokens")),
            (self.omega_embedder(1 - 1 / guidance), self.get_parameter("omega_tokens")),
            (self.cfg_t_start_embedder(t_min), self.get_parameter("t_min_tokens")),
            (self.cfg_t_end_embedder(t_max), self.get_parameter("t_max_tokens")),
            (self.h_embedder(h), self.get_parameter("time_tokens")),
        )
        prefix = [tokens + embedded[:, None] for embedded, tokens in conditions]
        tokens = self._placed(torch.cat([*prefix, self.x_embedder(x_t)], dim=1))  # (B, E + T, D)
        outer, rotary = tokens.dtype, self._rotary(tokens)
        tokens = tokens.to(dtype_of(self.u_heads if arguments.head_depth else self.shared_blocks))
        for block in self.shared_blocks:
            tokens = block(tokens, rotary)
        outputs = []
        for name in heads:
            of_head = tokens
            for block in self.get_submodule(f"{name}_heads").children():
                of_head = block(of_head, rotary)
            values = self.get_submodule(f"{name}_final_layer")(of_head[:, arguments.num_prefix_tokens :].to(outer))
            output = unpatchify(values, arguments.grid_size, arguments.patch_size)
            outputs.append(self._read(output, x_t, t))
        return outputs

    def _placed(self, tokens: Tensor) -> Tensor:
        return tokens

    def _rotary(self, tokens: Tensor) -> Tensor:
        return rotary_1d(self.arguments.head_size, tokens.shape[1], device=tokens.device)

    def _read(self, output: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        return output
