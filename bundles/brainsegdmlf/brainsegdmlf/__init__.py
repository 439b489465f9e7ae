"""BrainSegDMLF: brain lesions from several MR sequences."""
