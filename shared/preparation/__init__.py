"""From the scanner to the network's input: find sequences, register, correct, extract the brain. Knows no bundle."""
