"""`dit demo`: a page to play with models."""


def run(source: list[str] | None = None, /, port: int = 7860) -> None:
    """Serve a page on which models are played with, for browsers of this machine.

    Samples by class appear while they are made; also denoising step by step, what lies between classes or seeds, the
    inversion of a picture, and two models or settings side by side. Every picture can be downloaded, with the command
    that makes it again. The page has the models that ship with the package and those named here, and works without a
    network.

    Args:
        source: zoo name, run folder, exported folder, .safetensors file of either, or Hub id; several may be given.
        port: port of the loopback address; 0 takes a free one.
    """
    from importlib.util import find_spec

    from dit.errors import ConfigError

    if find_spec("gradio") is None:
        raise ConfigError("dit demo: expected gradio, found none; pip install 'dit-zoo[demo]'")
    from dit.demo.server import serve

    serve(source or (), port)
