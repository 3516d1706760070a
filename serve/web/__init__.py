"""The web page, a Gradio app. `python -m serve.web` serves it alone, and `videollm serve` beside the API."""

import os

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when Gradio is imported, which only modules of this package do
