"""The program that fills the model cache: a folder brought to hold exactly what the engine reads.

Run as `python -m service.model_cache` where the folder is mounted. It knows files, sizes and
digests; it knows nothing of tensors, of the service's settings, or of how a host is deployed to.
"""
