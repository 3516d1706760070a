"""Video models of transformers (Qwen-VL, LLaVA, InternVL and others), behind the interface of our own models."""
