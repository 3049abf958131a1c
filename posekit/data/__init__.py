"""Annotations as memory-mapped columns, crops, mixed sampling, loaders.

The parts are imported from their modules: `index` (PoseIndex, build_index), `sampler`
(MixedSampler, Source), `loader` (MixedLoader, CropSource, Batch), `eval_loader` (EvalLoader),
`crop_store` (open_store), `images` (read_image).
"""
