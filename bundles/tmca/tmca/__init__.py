"""TMCA: target-informed multi-level contrastive alignments, a sentence from the report guides the mask."""
