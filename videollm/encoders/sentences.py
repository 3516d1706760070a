"""Sentence embeddings of all-MiniLM-L6-v2 (https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2)."""

from pathlib import Path

import torch
from torch import nn
from transformers import AutoTokenizer, BertModel

MAX_TOKENS = 256  # the model was trained with at most so many


class SentenceEncoder:
    """English sentence embeddings, as sentence-transformers defines them: the normalised mean of the last hidden
    states."""

    def __init__(self, directory: Path, device: torch.device):
        self.tokenizer = AutoTokenizer.from_pretrained(directory, trust_remote_code=False)
        model = BertModel.from_pretrained(directory, dtype=torch.float32).eval().requires_grad_(False)
        self.model = nn.Module.to(model, device)

    @torch.no_grad()
    def __call__(self, texts: list[str]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Returns tokens (B,L,384), a bool mask (B,L) and unit vectors embed (B,384), the masked mean of the tokens."""
        batch = self.tokenizer(texts, padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt")
        batch = batch.to(self.model.device)
        hidden = self.model(**batch).last_hidden_state
        mask = batch["attention_mask"].bool()
        mean = hidden.masked_fill(~mask[..., None], 0).sum(1) / mask.sum(1, keepdim=True)
        norm = mean.norm(dim=-1, keepdim=True)
        return hidden / norm[..., None], mask, mean / norm

    def reads_whole(self, text: str) -> bool:
        """Returns whether the text has at most `MAX_TOKENS` tokens."""
        return len(self.tokenizer(text, verbose=False)["input_ids"]) <= MAX_TOKENS

    def embed(self, texts: list[str], batch_size: int = 64) -> torch.Tensor:
        """Returns unit vectors (B,384). Texts of similar length share a batch, because padding takes time."""
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        parts = [self([texts[i] for i in order[at : at + batch_size]])[2] for at in range(0, len(order), batch_size)]
        return torch.cat(parts)[torch.tensor(order).argsort().to(parts[0].device)]
