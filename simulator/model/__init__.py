"""An OpenAI-compatible model stand-in: the wire protocol of chat completions, answers by a fixed rule."""

from simulator.model.server import make_model_app

__all__ = ["make_model_app"]
