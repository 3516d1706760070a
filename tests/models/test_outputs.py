"""Signal tokens and output projections: off by default, read and written by an unchanged language model, trained."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cross_entropy

from videollm import checkpoint
from videollm.checkpoint import Model
from videollm.config import ModelConfig
from videollm.errors import CheckpointError, ConfigError
from videollm.inference.engine import LocalEngine, PromptCache
from videollm.inference.sampling import GenerationConfig
from videollm.models.language import debug_language_model
from videollm.models.outputs import MediaOutputs
from videollm.models.processor import Message, collate
from videollm.output_config import OutputConfig, OutputKind
from videollm.presets import DEBUG

OUTPUTS = OutputConfig(
    kind="transformer",
    decoders=("pictures", "", "sounds"),
    tokens=(2, 3, 3),
    embeddings=(7, 7, 1),
    widths=(16, 24, 12),
    width=16,
    layers=1,
    heads=2,
)
ANSWER = "See <image>a cat</image> and hear <audio>a purr</audio>, not <video>a dog</video>."


@pytest.fixture(scope="module")
def model() -> Model:
    return checkpoint.build(replace(DEBUG, outputs=OUTPUTS))


def test_the_configuration_is_off_by_default_and_keeps_what_is_set():
    assert DEBUG.outputs.modalities == () and checkpoint.build(DEBUG).llm.outputs is None
    made = replace(DEBUG, outputs=OUTPUTS)
    assert ModelConfig.from_dict(made.to_dict()) == made and made.sha != DEBUG.sha
    assert OUTPUTS.modalities == ("image", "audio")
    for values, message in (
        ({"decoders": ("", "", "")}, "no decoder"),
        ({"tokens": (1, 2)}, "one value for each"),
        ({"tokens": (1, 2, 5000)}, "at most 1024"),
    ):
        with pytest.raises(ConfigError, match=message):
            replace(OUTPUTS, **values)


def test_answers_show_by_signal_tokens_and_users_cannot_write_them(model: Model):
    processor = model.processor
    assert processor.signals == {"image": [258, 259], "audio": [260, 261, 262]}
    prompt = processor([Message("user", f"[IMG0] {ANSWER}"), Message("assistant", ANSWER)])
    assert prompt.shown == [("image", "a cat"), ("audio", "a purr")]
    assert [token for token in prompt.ids if token >= 258] == [258, 259, 260, 261, 262]
    learned = [token for token in prompt.labels if token >= 0]
    assert processor.decode(learned) == "See  and hear , not <video>a dog</video>."


def test_other_words_keep_their_logits_and_only_rows_and_projections_are_trained(model: Model):
    plain = debug_language_model()
    prompt = model.processor([Message("user", "What?"), Message("assistant", "A cat.")])
    ids = torch.tensor([prompt.ids])
    with torch.inference_mode():
        logits = model.llm(ids).logits
        assert torch.equal(logits[..., :258], plain(ids).logits)
    assert logits.shape[-1] == 263
    trained = {name for name, parameter in model.llm.named_parameters() if parameter.requires_grad}
    assert trained and all(name.startswith(("temporal.", "visual_norm.", "outputs.")) for name in trained)
    assert {"outputs.embeddings", "outputs.head"} <= trained


def test_rows_take_the_places_of_padding_that_a_matrix_has_already():
    language_model = debug_language_model()
    with torch.no_grad():
        outputs = MediaOutputs(OUTPUTS, 64, first=250)  # the debug model has 258 rows
    ids = torch.tensor([[3, 250, 254, 255]])
    before = language_model(ids).logits
    outputs.extend(language_model)
    embeds = language_model.get_input_embeddings()(ids)
    assert torch.equal(embeds[0, 1:3], outputs.embeddings[[0, 4]])
    logits = language_model(ids).logits
    assert logits.shape == before.shape and language_model.config.vocab_size == 258
    assert torch.equal(logits[0, 0, :250], before[0, 0, :250]) and torch.equal(logits[0, 0, 255:], before[0, 0, 255:])


@pytest.mark.parametrize("kind", ["transformer", "qformer"])
def test_the_loss_is_that_of_the_words_and_the_distance_of_conditions(kind: OutputKind):
    model = checkpoint.build(replace(DEBUG, outputs=replace(OUTPUTS, kind=kind)))
    llm = model.llm.eval()
    prompts = [
        model.processor([Message("user", "Show."), Message("assistant", text)])
        for text in (ANSWER, "<image>a dog</image>", "Nothing.")
    ]
    batch = collate(prompts, model.processor.tokenizer.pad_token_id)
    wanted = {"image": torch.randn(2, 7, 16), "audio": torch.randn(1, 1, 12)}
    found = llm(**batch, conditions=wanted)

    labels = batch["labels"][:, 1:]
    logits = llm(batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, :-1]
    text = cross_entropy(logits[labels >= 0], labels[labels >= 0])
    made = [llm.conditions(torch.tensor([prompt.ids])) for prompt in prompts]
    pictures = torch.cat([made[0]["image"], made[1]["image"]])
    aligned = (pictures - wanted["image"]).norm(dim=-1).mean() + (made[0]["audio"] - wanted["audio"]).norm()
    torch.testing.assert_close(found.loss, text + aligned)
    torch.testing.assert_close(found.text_loss, text)
    torch.testing.assert_close(found.alignment_loss, aligned)

    found.loss.backward()
    outputs = llm.outputs
    assert outputs is not None
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in (outputs.embeddings, outputs.head))
    llm.zero_grad()
    alone = collate(prompts[2:], model.processor.tokenizer.pad_token_id)
    llm(**alone, conditions={}).loss.backward()  # ranks reduce gradients together, so none may be missing
    assert all(parameter.grad is not None for parameter in outputs.parameters())


def test_engine_and_transformers_write_the_same_signal_tokens(model: Model):
    llm = model.llm.eval()
    outputs = llm.outputs
    assert outputs is not None
    prompt = model.processor([Message("user", "Show.")])
    with torch.no_grad():
        likeliest = llm(torch.tensor([prompt.ids])).logits[0, -1].argmax()
        outputs.head[2] = 2 * llm.get_input_embeddings().weight[likeliest]
    engine = LocalEngine(llm, model.processor.stop_ids)
    said = [token.id for token in engine.stream(prompt, PromptCache(), GenerationConfig(max_new_tokens=8))]
    expected = llm.generate(torch.tensor([prompt.ids]), max_new_tokens=8, do_sample=False, pad_token_id=1)[0].tolist()
    assert said == expected and 260 in said


def test_a_signal_is_completed():
    outputs = MediaOutputs(OUTPUTS, 64, first=258)
    assert outputs.completed([5, 258, 6, 262, 260, 261, 7]) == [5, 258, 259, 6, 260, 261, 262, 7]


def test_a_checkpoint_keeps_outputs(model: Model, tmp_path):
    checkpoint.save(model, tmp_path / "saved")
    loaded = checkpoint.load(str(tmp_path / "saved"))
    state = model.llm.state_dict()
    assert loaded.config == model.config and loaded.processor.signals == model.processor.signals
    assert all(torch.equal(state[name], tensor) for name, tensor in loaded.llm.state_dict().items())
    config = (tmp_path / "saved/config.json").read_text()
    (tmp_path / "saved/config.json").write_text(config.replace('"width": 16,', '"width": 32,'))
    with pytest.raises(CheckpointError, match=r"outputs\."):
        checkpoint.load(str(tmp_path / "saved"))
