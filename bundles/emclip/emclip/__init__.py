"""EM-CLIP: vision-language semantic aggregation, segmentation that survives an unseen camera, scanner or hospital."""
