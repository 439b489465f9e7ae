"""Files to tensors and back: NIfTI, DICOM, pictures. No MONAI engine."""
