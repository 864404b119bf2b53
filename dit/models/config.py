"""The `model` section of a recipe."""

from typing import Annotated, Any

from pydantic import Field

from dit.schema import Section

Size = Annotated[int, Field(ge=1)]


class ModelConfig(Section):
    """Which network is trained; what is left out comes from the variant, the data and the autoencoder."""

    name: str = "dit_s_2"
    """Variant, one of `dit models`."""
    num_classes: Annotated[int, Field(ge=0)] | None = None
    """Number of classes; left out: as many as the data has; 0: unconditional, the null class alone."""
    input_size: Size | list[Size] | None = None
    """Height and width of the latent; left out: image size over the autoencoder's stride."""
    in_channels: Size | None = None
    """Channels of the latent; left out: the autoencoder's."""
    learn_sigma: bool | None = None
    """Whether the output has a second half for the variance; left out: as the process needs it."""
    class_dropout_prob: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of training labels replaced by the null class; guidance needs more than 0."""
    patch_size: Size | None = None
    """Side of a patch, in latent pixels."""
    hidden_size: Size | None = None
    """Width of the tokens."""
    depth: Size | None = None
    """Number of blocks."""
    num_heads: Size | None = None
    """Number of attention heads; must divide the width."""
    mlp_ratio: Annotated[float, Field(gt=0)] | None = None
    """Width of the MLP over the width of the tokens."""
    pretrained: str | None = None
    """Weights to start from: a zoo name, a folder, a checkpoint file or a Hub id."""

    def overrides(self) -> dict[str, Any]:
        """Return the architecture's arguments that this section sets, for `create_model(name, **overrides)`."""
        arguments = self.model_dump(exclude={"name", "pretrained"}, exclude_none=True)
        if isinstance(arguments.get("input_size"), list):
            arguments["input_size"] = tuple(arguments["input_size"])
        return arguments
