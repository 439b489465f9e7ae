"""The layers that the methods publish: tensors in, tensors out. Imports torch, MONAI's layers and core."""
