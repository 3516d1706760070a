"""The web page, a Gradio app: `python -m serve.web` for itself, or beside the API in `videollm serve`."""

import os

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when Gradio is imported, which only modules of this package do
