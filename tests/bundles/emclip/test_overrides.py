"""Options and override files of EM-CLIP: what they say reaches the network and the rules for masks."""

from __future__ import annotations

import open_clip
import pytest
import torch
from emclip.postprocessing.drawn_size import DrawnSized

from tests.bundles.emclip.facts import BUNDLE
from tests.bundles.running import input_error

VISION = {"image_size": 64, "patch_size": 16, "width": 32, "head_width": 16, "layers": 4}
TEXT = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
MODEL = {"embed_dim": 32, "quick_gelu": True, "vision_cfg": VISION, "text_cfg": TEXT}
NAME = "tiny-quickgelu"
of_both_configs = pytest.mark.parametrize(
    ("config", "where"), [("train", "validate#postprocessing"), ("inference", "postprocessing")]
)


def test_pictures_are_the_default():
    assert all(BUNDLE.config(name)["pictures"] for name in ("train", "inference"))


@pytest.fixture
def checkpoint(tmp_path, monkeypatch):
    """A file of open_clip's, of a small model under a name of its own."""
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, NAME, MODEL)
    torch.manual_seed(0)
    model = open_clip.create_model(NAME)
    torch.save(model.state_dict(), tmp_path / "clip.pt")
    return model, str(tmp_path / "clip.pt")


def test_open_clip_override_tunes_pretrained_weights(checkpoint):
    """A file comes before the tag that the override names."""
    model, path = checkpoint
    flow = BUNDLE.workflow("train", "open_clip_vit_b16", encoder=NAME, checkpoint=path)
    network = flow.parser.get_parsed_content("network_def")
    assert network.encoder_size == 224 and network.normalization == "clip"
    names = [name for name, p in network.encoder.named_parameters() if p.requires_grad]
    assert names and all("lora" in name for name in names)
    assert torch.equal(network.encoder.visual.class_embedding, model.visual.class_embedding)
    (tower,) = network.texts._encoder
    assert torch.equal(tower.text.token_embedding.weight, model.token_embedding.weight)


def test_inference_asks_for_pretrained_weights_only_with_the_text_tower(checkpoint):
    """What training began with is in the weights: no file and no network is needed, unless for new words."""
    names = ["inference", "open_clip_vit_b16"]
    network = BUNDLE.workflow(*names, encoder=NAME).parser.get_parsed_content("network_def").eval()
    assert network(torch.rand(1, 3, 48, 64)).shape == (1, 2, 48, 64)
    evaluation = BUNDLE.workflow("train", "open_clip_vit_b16", "evaluate", encoder=NAME).parser
    assert evaluation.get_parsed_content("network_def").texts._encoder == [None]
    parser = BUNDLE.workflow(*names, encoder=NAME, text_tower=True).parser
    assert "give checkpoint=" in input_error(parser.get_parsed_content, "network_def")


def test_the_model_of_the_override_exists():
    parser = BUNDLE.workflow("train", "open_clip_vit_b16").parser
    tags = open_clip.list_pretrained_tags_by_model(parser.get("encoder"))
    assert parser.get("pretrained") in tags


@of_both_configs
@pytest.mark.parametrize("kept", [True, False])
def test_a_structure_is_one_piece_unless_told_otherwise(config, where, kept):
    """Of the structures as a whole, then of each: what lies far from the disc goes, a cup of one pixel in it stays."""
    parser = BUNDLE.workflow(config, largest_component=kept).parser
    steps = [step for step in parser.get_parsed_content(where).transforms if "pred" in step.keys]
    logits = torch.full((2, 12, 12), -9.0)
    logits[0, 2:6, 2:6] = logits[0, 10, 10] = logits[1, 3, 3] = logits[1, 9:11, 2:4] = 9.0
    data = {"pred": logits}
    for step in steps:
        if type(step).__name__ in ("Activationsd", "Thresholdd", "KeepCommonPieced", "KeepLargestConnectedComponentd"):
            data = step(data)
    assert data["pred"].sum((1, 2)).tolist() == [16 if kept else 17, 1 if kept else 5]


@of_both_configs
@pytest.mark.parametrize("size", [None, {"optic cup": 0.9}])
def test_structures_keep_their_size_unless_told_otherwise(config, where, size):
    flow = BUNDLE.workflow(config, drawn_size=size)
    flow.initialize()
    steps = flow.parser.get_parsed_content(where).transforms
    assert [step.factors for step in steps if isinstance(step, DrawnSized)] == ([{1: 0.9}] if size else [])


def test_the_size_of_an_unknown_structure_is_one_line():
    flow = BUNDLE.workflow("train", drawn_size={"macula": 0.9})
    line = input_error(flow.parser.get_parsed_content, "validate#postprocessing")
    assert line.startswith("drawn_size is {'macula': 0.9}: give structures (optic disc, optic cup) and factors")


def test_null_leaves_out_what_varies_the_sizes_inside():
    flow = BUNDLE.workflow("train", nested_labels="null")
    flow.initialize()
    names = [type(step).__name__ for step in flow.parser.get_parsed_content("train#preprocessing").transforms]
    assert "RandNestedd" not in names and "RandZoomd" in names
