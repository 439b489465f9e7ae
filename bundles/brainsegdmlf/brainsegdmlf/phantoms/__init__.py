"""Brain phantoms, the built-in data set: synthetic MR with white-matter lesions, nothing to download.

- `anatomy`: one head, from the MNI152 template
- `lesions`: its white-matter lesions
- `contrast`: its MR sequences
- `dataset`: whole cases, and the data set on disk

For training with ``make_weights.py``, partly from public data that are not shipped:

- `label_map`: heads from label maps
- `real_lesions`: lesions in the shapes of patients' masks
- `artefacts`: artefacts of clinical scans
- `random_case`: cases of all these kinds
"""

from brainsegdmlf.phantoms.dataset import BrainCase, make_brain_case, make_brain_phantoms

__all__ = ["BrainCase", "make_brain_case", "make_brain_phantoms"]
